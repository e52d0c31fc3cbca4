#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <thread>
#include <utility>

#include <cuda_fp8.h>

#include "gpu/blas.hpp"
#include "kernels/bench.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/device/packed_float.cuh"
#include "kernels/gpu.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

constexpr std::size_t kColdBytes = std::size_t{420} << 20;
/// How long something is timed. It runs for a while before: clocks fall while the host prepares it, and come
/// back only under work of its own kind. Before that the GPU rests: where power limits its clocks, they
/// remember what ran before for longer than it takes to time something.
struct Pace {
  std::chrono::milliseconds rest;
  double warm_up_milliseconds;
  int rounds;
};
constexpr Pace kUnhurried{std::chrono::milliseconds{50}, 30, 7}, kHurried{std::chrono::milliseconds{2}, 4, 5};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// The clock of every multiprocessor, and the time, in nanoseconds.
__global__ void read_clocks(ulonglong2* of_sm) {
  std::uint32_t sm;
  unsigned long long now;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  of_sm[sm] = {static_cast<unsigned long long>(clock64()), now};
}
/// Two readings, between which something runs.
class Clocks {
 public:
  Clocks() : begin_{num_multiprocessors()}, end_{num_multiprocessors()} {}
  void begin(const Stream& stream) { read(begin_, stream); }
  void end(const Stream& stream) { read(end_, stream); }
  /// Median over the multiprocessors.
  double megahertz(const Stream& stream) const {
    const std::vector<ulonglong2> from = begin_.to_host(stream), to = end_.to_host(stream);
    std::vector<double> rates;
    for (std::size_t i = 0; i < from.size(); ++i)
      if (from[i].y > 0 && to[i].y > from[i].y)  // both times a block was there
        rates.push_back(static_cast<double>(to[i].x - from[i].x) * 1e3 /
                        static_cast<double>(to[i].y - from[i].y));
    return rates.empty() ? 0 : median(std::move(rates));
  }

 private:
  static std::size_t num_multiprocessors() {
    int device = 0, count = 0;
    MPK_CUDA(cudaGetDevice(&device));
    MPK_CUDA(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
    return static_cast<std::size_t>(count);
  }
  static void read(DeviceBuffer<ulonglong2>& of_sm, const Stream& stream) {
    of_sm.fill_bytes(0, stream);
    read_clocks<<<16 * static_cast<unsigned>(of_sm.size()), 1, 0, stream.get()>>>(of_sm.data());
    MPK_CUDA(cudaGetLastError());
  }
  DeviceBuffer<ulonglong2> begin_, end_;
};

struct Timing {
  double us;         ///< median
  double megahertz;  ///< of the multiprocessors meanwhile
};
/// One of `launches` calls that `run` makes together, once it has warmed up.
template <class Run>
Timing median_time(const Stream& stream, int launches, Run&& run, const Pace& pace = kUnhurried) {
  Clocks clocks;
  std::this_thread::sleep_for(pace.rest);
  const auto milliseconds = [&] {
    Event begin, end;
    begin.record(stream);
    run();
    end.record(stream);
    return static_cast<double>(end.milliseconds_since(begin));
  };
  for (double spent = 0; spent < pace.warm_up_milliseconds;) spent += milliseconds();
  std::vector<double> rounds;
  clocks.begin(stream);
  for (int round = 0; round < pace.rounds; ++round) rounds.push_back(milliseconds() * 1e3 / launches);
  clocks.end(stream);
  return {median(std::move(rounds)), clocks.megahertz(stream)};
}
/// Replayed as a graph: the host's share stays out.
template <class Launch>
Timing in_graph(const Stream& stream, int launches, Launch&& launch, const Pace& pace = kUnhurried) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  MPK_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < launches; ++i) launch(i);
  MPK_CUDA(cudaStreamEndCapture(stream.get(), &graph));
  MPK_CUDA(cudaGraphInstantiate(&replay, graph, 0));
  const Timing timing = median_time(
      stream, launches, [&] { MPK_CUDA(cudaGraphLaunch(replay, stream.get())); }, pace);
  MPK_CUDA(cudaGraphExecDestroy(replay));
  MPK_CUDA(cudaGraphDestroy(graph));
  return timing;
}
template <class Launch>
Timing by_launches(const Stream& stream, int launches, Launch&& launch) {
  return median_time(stream, launches, [&] {
    for (int i = 0; i < launches; ++i) launch(i);
  });
}

__global__ void empty_kernel() {}

/// Reads everything once, eight loads of 16 bytes in flight a thread.
__global__ void __launch_bounds__(512) read_kernel(const uint4* data, std::size_t size, std::uint32_t* sink) {
  constexpr int kAtOnce = 8;
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  std::uint32_t mixed = 0;
  for (; i + (kAtOnce - 1) * stride < size; i += kAtOnce * stride) {
    uint4 v[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) v[j] = __ldcs(data + i + j * stride);
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) mixed ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  for (; i < size; i += stride) {
    const uint4 v = __ldcs(data + i);
    mixed ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  if (mixed == 0x9e3779b9) *sink = mixed;  // keeps the loads
}

/// Values that cost what real ones cost: 16-bit floats of magnitude `low` to 8 `low` and either sign, or any
/// bits.
__device__ std::uint32_t mixed_bits(std::size_t i, std::uint32_t seed) {
  std::uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull + seed;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return static_cast<std::uint32_t>(x ^ x >> 31);
}
__global__ void fill_bits(std::uint32_t* out, std::size_t size, std::uint32_t seed) {
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size;
       i += static_cast<std::size_t>(gridDim.x) * blockDim.x)
    out[i] = mixed_bits(i, seed);
}
template <Float kFloat>
__global__ void fill_floats(std::uint16_t* out, std::size_t size, float low, bool positive,
                            std::uint32_t seed) {
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size;
       i += static_cast<std::size_t>(gridDim.x) * blockDim.x) {
    const std::uint32_t x = mixed_bits(i, seed);
    const float value = low * exp2f(static_cast<float>(x & 0xffff) * (3.0f / 65536));
    out[i] = static_cast<std::uint16_t>(round_to<kFloat>(positive || x >> 31 ? value : -value, 0.0f));
  }
}
__global__ void fill_bytes(std::uint8_t* out, std::size_t size, int low, int span, std::uint32_t seed) {
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size;
       i += static_cast<std::size_t>(gridDim.x) * blockDim.x)
    out[i] = static_cast<std::uint8_t>(
        low + static_cast<int>(mixed_bits(i, seed) % static_cast<std::uint32_t>(span)));
}
/// Any int8; e4m3 of magnitudes 2^-3 to 60 and either sign.
template <Activation8 kActivations>
__global__ void fill_activations8(std::uint8_t* out, std::size_t size, std::uint32_t seed) {
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size;
       i += static_cast<std::size_t>(gridDim.x) * blockDim.x) {
    const std::uint32_t x = mixed_bits(i, seed);
    out[i] = static_cast<std::uint8_t>(
        kActivations == Activation8::int8 ? x >> 24 : (x >> 31 << 7) + (4u << 3) + x % (9u << 3));
  }
}
/// A NaN code of e4m3 is not a weight.
__global__ void clear_nan_codes(std::uint32_t* words, std::size_t size) {
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size;
       i += static_cast<std::size_t>(gridDim.x) * blockDim.x)
    words[i] &= 0xf7f7f7f7u;
}

template <Activation8 kActivations>
struct Bits8 {
  std::uint8_t bits;
  __device__ double value() const {
    if constexpr (kActivations == Activation8::int8) return static_cast<std::int8_t>(bits);
    __nv_fp8_e4m3 e4m3;
    e4m3.__x = bits;
    return static_cast<double>(static_cast<float>(e4m3));
  }
};
template <Float kFloat>
struct Bits16 {
  std::uint16_t bits;
  __device__ double value() const { return static_cast<double>(to_floats<kFloat>(bits).x); }
};

/// Squared distance and squared length of the exact products of `rows` rows, m_step apart. One thread a
/// column. `row_scales`: of 8-bit activations, else null.
template <class Activation, Float kFloat>
__global__ void compare_kernel(const void* activations, const float* row_scales, const std::uint16_t* weights,
                               const std::uint16_t* out, int n_size, int k_size, int rows, int m_step,
                               double* distance, double* length) {
  const auto* a = static_cast<const Activation*>(activations);
  const int n = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (n >= n_size) return;
  const auto value = [](std::uint16_t bits) { return static_cast<double>(to_floats<kFloat>(bits).x); };
  double off = 0, all = 0;
  for (int row = 0; row < rows; ++row) {
    const std::int64_t m = static_cast<std::int64_t>(row) * m_step;
    double sum = 0;
    for (std::int64_t k = 0; k < k_size; ++k)
      sum += a[m * k_size + k].value() * value(weights[k * n_size + n]);
    if (row_scales) sum *= static_cast<double>(row_scales[m]);
    const double error = value(out[m * n_size + n]) - sum;
    off += error * error, all += sum * sum;
  }
  atomicAdd(distance, off);
  atomicAdd(length, all);
}

/// out (M, N) = a (M, K) * weights (K, N), all row-major.
void multiply_by_cublas(const Blas& blas, Float type, M m, K k, N n, const std::uint16_t* a,
                        const std::uint16_t* weights, std::uint16_t* out) {
  const GpuFloat element = type == Float::f16 ? GpuFloat::f16 : GpuFloat::bf16;
  blas.gemm(GpuOp::none, GpuOp::none, n.value, m.value, k.value, 1, {weights, element, n.value},
            {a, element, k.value}, 0, {out, element, n.value});
}

/// Copies of a layer, random in every bit that may be.
struct Weights {
  int copies;
  DeviceBuffer<std::uint32_t> words, zeros;
  DeviceBuffer<std::byte> scales;
  std::size_t num_words, num_zeros, scale_bytes_each;

  Weights(const LayerShape& layer, const Stream& stream)
      : num_words{layer.num_words()},
        num_zeros{layer.num_zero_words()},
        scale_bytes_each{layer.num_scales() * static_cast<std::size_t>(scale_bytes(layer.weight))} {
    copies = static_cast<int>(std::clamp<std::size_t>(kColdBytes / bytes() + 1, 2, 64));
    const auto all = static_cast<std::size_t>(copies);
    words = DeviceBuffer<std::uint32_t>{num_words * all};
    zeros = DeviceBuffer<std::uint32_t>{num_zeros * all};
    scales = DeviceBuffer<std::byte>{scale_bytes_each * all};
    constexpr int kBlocks = 1024, kThreads = 256;
    fill_bits<<<kBlocks, kThreads, 0, stream.get()>>>(words.data(), words.size(), 1);
    if (layer.weight == Weight::e4m3)
      clear_nan_codes<<<kBlocks, kThreads, 0, stream.get()>>>(words.data(), words.size());
    if (layer.weight == Weight::u4)
      fill_bits<<<kBlocks, kThreads, 0, stream.get()>>>(zeros.data(), zeros.size(), 2);
    if (layer.weight == Weight::u4_float_zeros) {  // 1 to 8
      auto* halves = reinterpret_cast<std::uint16_t*>(zeros.data());
      const auto kernel =
          layer.activations == Float::f16 ? fill_floats<Float::f16> : fill_floats<Float::bf16>;
      kernel<<<kBlocks, kThreads, 0, stream.get()>>>(halves, 2 * zeros.size(), 1.0f, true, 2);
    }
    auto* floats = reinterpret_cast<std::uint16_t*>(scales.data());
    auto* bytes8 = reinterpret_cast<std::uint8_t*>(scales.data());
    if (layer.weight == Weight::nvfp4)  // e5m3 from 1 to 16
      fill_bytes<<<kBlocks, kThreads, 0, stream.get()>>>(bytes8, scales.size(), 15 << 3, 32, 3);
    else if (layer.weight == Weight::mxfp4)  // 2^-10 to 2^-3, and the factor that FP8's contain
      fill_bytes<<<kBlocks, kThreads, 0, stream.get()>>>(bytes8, scales.size(),
                                                         layer.activations8 ? 123 : 117, 8, 3);
    else {
      const bool fp8 = layer.weight == Weight::e4m3, f16 = layer.activations == Float::f16;
      // With the factor that scales of e4m3, and of what e4m3 multiplies, contain.
      const float low = fp8                                       ? (f16 ? 0x1p-2f : 0x1p110f)
                        : layer.activations8 == Activation8::e4m3 ? 1.0f
                                                                  : 0x1p-9f;
      if (f16)
        fill_floats<Float::f16>
            <<<kBlocks, kThreads, 0, stream.get()>>>(floats, scales.size() / 2, low, true, 3);
      else
        fill_floats<Float::bf16>
            <<<kBlocks, kThreads, 0, stream.get()>>>(floats, scales.size() / 2, low, true, 3);
    }
    MPK_CUDA(cudaGetLastError());
  }
  std::size_t bytes() const { return num_words * 4 + num_zeros * 4 + scale_bytes_each; }

  GemmBuffers of(int copy) const {
    const auto i = static_cast<std::size_t>(copy);
    GemmBuffers buffers;
    buffers.words = words.data() + i * num_words;
    buffers.scales = scales.data() + i * scale_bytes_each;
    if (num_zeros > 0) buffers.zero_points = zeros.data() + i * num_zeros;
    return buffers;
  }
};

double read_floor(const Weights& weights, const Stream& stream, int sms) {
  DeviceBuffer<std::uint32_t> sink{1};
  double best = 0;
  for (const int per_sm : {1, 2, 3, 4}) {
    const Timing timing = in_graph(stream, 2 * weights.copies, [&](int i) {
      const auto* from = reinterpret_cast<const uint4*>(
          weights.words.data() + static_cast<std::size_t>(i % weights.copies) * weights.num_words);
      read_kernel<<<per_sm * sms, 512, 0, stream.get()>>>(from, weights.num_words / 4, sink.data());
    });
    if (best == 0 || timing.us < best) best = timing.us;
  }
  // The words are nearly all of it; scales and zero points are added at the same rate.
  return best * static_cast<double>(weights.bytes()) / static_cast<double>(weights.num_words * 4);
}

template <Float kFloat>
auto compare_kernel_for(std::optional<Activation8> activations8) {
  if (!activations8) return compare_kernel<Bits16<kFloat>, kFloat>;
  return activations8 == Activation8::int8 ? compare_kernel<Bits8<Activation8::int8>, kFloat>
                                           : compare_kernel<Bits8<Activation8::e4m3>, kFloat>;
}

double check(const LayerShape& layer, M m, const void* a, const float* row_scales,
             const std::uint16_t* weights, const DeviceBuffer<std::uint16_t>& out, const Stream& stream) {
  DeviceBuffer<double> sums{2};
  sums.fill_bytes(0, stream);
  const int rows = static_cast<int>(std::min<std::int64_t>(m.value, 4));
  const int step = rows > 1 ? static_cast<int>((m.value - 1) / (rows - 1)) : 1;  // the last row among them
  const int n = static_cast<int>(layer.n.value), k = static_cast<int>(layer.k.value);
  const auto kernel = layer.activations == Float::f16 ? compare_kernel_for<Float::f16>(layer.activations8)
                                                      : compare_kernel_for<Float::bf16>(layer.activations8);
  kernel<<<(n + 63) / 64, 64, 0, stream.get()>>>(a, row_scales, weights, out.data(), n, k, rows, step,
                                                 sums.data(), sums.data() + 1);
  MPK_CUDA(cudaGetLastError());
  const std::vector<double> host = sums.to_host(stream);
  return std::sqrt(host[0] / host[1]);
}

}  // namespace

BenchReport run_bench(const BenchJob& job, const std::function<void(const std::string&)>& progress) {
  if (!gpu_status().usable) throw Error{ErrorKind::device, "no GPU: " + gpu_status().reason};
  const Stream stream;
  const GpuTraits gpu = current_gpu_traits();
  BenchReport report;
  report.gpu = gpu_status().name;
  report.num_sms = gpu.num_sms;
  report.empty_us = in_graph(stream, 200, [&](int) { empty_kernel<<<1, 32, 0, stream.get()>>>(); }).us;

  std::optional<Blas> cublas;
  report.cublas = "not asked for";
  if (job.cublas) try {
      cublas.emplace(stream);
      report.cublas = cublas->library();
    } catch (const Error& error) {
      report.cublas = std::string{"none: "} + error.what();
    }
  constexpr int kBlocks = 1024, kThreads = 256;
  if (cublas) {
    const std::int64_t side = 8192;
    DeviceBuffer<std::uint16_t> a{static_cast<std::size_t>(side * side)}, b{a.size()}, c{a.size()};
    fill_floats<Float::f16><<<kBlocks, kThreads, 0, stream.get()>>>(a.data(), a.size(), 0.25f, false, 5);
    fill_floats<Float::f16><<<kBlocks, kThreads, 0, stream.get()>>>(b.data(), b.size(), 0.01f, false, 6);
    const double us =
        in_graph(stream, 4, [&](int) {
          multiply_by_cublas(*cublas, Float::f16, M{side}, K{side}, N{side}, a.data(), b.data(), c.data());
        }).us;
    report.peak_tflops = 2.0 * static_cast<double>(side * side * side) / us * 1e-6;
  }

  for (const LayerShape& layer : job.layers) {
    require_gemm(layer);
    const auto k = static_cast<std::size_t>(layer.k.value), n = static_cast<std::size_t>(layer.n.value);
    std::int64_t most = 0;
    for (const M m : job.rows) most = std::max(most, m.value);
    const Weights weights{layer, stream};
    BenchLayer& measured = report.layers.emplace_back();
    measured.layer = layer;
    measured.bytes = weights.bytes();
    progress(std::string{name_of(layer.weight)} + " " + std::to_string(layer.k.value) + "x" +
             std::to_string(layer.n.value));
    measured.floor_us = read_floor(weights, stream, gpu.num_sms);

    DeviceBuffer<std::uint16_t> a{static_cast<std::size_t>(most) * k},
        out{static_cast<std::size_t>(most) * n};
    if (layer.activations == Float::f16)
      fill_floats<Float::f16><<<kBlocks, kThreads, 0, stream.get()>>>(a.data(), a.size(), 0.25f, false, 7);
    else
      fill_floats<Float::bf16><<<kBlocks, kThreads, 0, stream.get()>>>(a.data(), a.size(), 0.25f, false, 7);
    DeviceBuffer<std::uint8_t> a8{layer.activations8 ? static_cast<std::size_t>(most) * k : 0};
    DeviceBuffer<float> row_scales{layer.activations8 ? static_cast<std::size_t>(most) : 0};
    if (layer.activations8) {
      const bool int8 = layer.activations8 == Activation8::int8;
      const auto fill = int8 ? fill_activations8<Activation8::int8> : fill_activations8<Activation8::e4m3>;
      fill<<<kBlocks, kThreads, 0, stream.get()>>>(a8.data(), a8.size(), 8);
      const std::vector<float> scales(static_cast<std::size_t>(most), 0x1.4p-7f);
      row_scales = DeviceBuffer<float>{scales, stream};
    }
    const void* activations = layer.activations8 ? static_cast<const void*>(a8.data()) : a.data();
    // What is checked against, and cuBLAS's weights, which rotate, too.
    const auto dense = static_cast<int>(std::clamp<std::size_t>(kColdBytes / (k * n * 2) + 1, 2, 16));
    DeviceBuffer<std::uint16_t> decoded{k * n * static_cast<std::size_t>(cublas ? dense : 1)};
    for (int i = 0; i < (cublas ? dense : 1); ++i)
      dequantize(layer, weights.of(0), decoded.data() + static_cast<std::size_t>(i) * k * n, stream.get());

    for (const M m : job.rows) {
      const std::vector<GemmPlan> plans = gemm_plans(layer, m, gpu, job.family);
      std::size_t workspace_bytes = 16;
      for (const GemmPlan& plan : plans) workspace_bytes = std::max(workspace_bytes, plan.workspace_bytes);
      DeviceBuffer<std::byte> workspace{workspace_bytes};
      const auto launch = [&](const GemmPlan& plan, int i) {
        GemmBuffers buffers = weights.of(i % weights.copies);
        buffers.activations = activations;
        buffers.row_scales = row_scales.data();
        buffers.out = out.data();
        buffers.workspace = workspace.data();
        gemm(plan, buffers, stream.get());
      };
      /// The error of the plan's product; its workspace is ready for more.
      const auto error_of = [&](const GemmPlan& plan) {
        workspace.fill_bytes(0, stream);
        out.fill_bytes(0xff, stream);
        launch(plan, 0);
        const double error = check(layer, m, activations, row_scales.data(), decoded.data(), out, stream);
        // A few roundings of the output, and what FP8 sums of 14 bits may lose.
        const double tolerance = (layer.activations == Float::f16 ? 2e-3 : 1.6e-2) +
                                 (layer.activations8 == Activation8::e4m3 ? 2e-3 : 0.0);
        if (!(error <= tolerance))
          throw Error{ErrorKind::mismatch, "wrong product, nothing timed: " + describe(plan) + ", M = " +
                                               std::to_string(m.value) + ", off by " + std::to_string(error)};
        return error;
      };
      const GemmPlan& plan = plans.front();
      BenchPoint point{.m = m, .kernel = describe(plan), .expected_us = plan.expected_us};
      point.error = error_of(plan);
      // Enough launches to rotate through all copies, few enough where one takes long.
      const bool long_one = static_cast<double>(m.value) * static_cast<double>(k * n) > 2e11;
      const int launches = long_one ? 4 : std::max(16, 2 * weights.copies);
      const auto launch_chosen = [&](int i) { launch(plan, i); };
      const Timing timing = in_graph(stream, launches, launch_chosen);
      point.graph_us = timing.us, point.megahertz = timing.megahertz;
      point.launch_us = by_launches(stream, launches, launch_chosen).us;
      if (cublas)
        point.cublas_us =
            in_graph(stream, launches, [&](int i) {
              multiply_by_cublas(*cublas, layer.activations, m, layer.k, layer.n, a.data(),
                                 decoded.data() + static_cast<std::size_t>(i % dense) * k * n, out.data());
            }).us;
      for (const GemmPlan& other : plans)
        if (other.expected_us <= job.plans_up_to * plan.expected_us) {
          (void)error_of(other);
          const auto launch_other = [&](int i) { launch(other, i); };
          point.plans.push_back(
              {describe(other), other.expected_us, in_graph(stream, launches, launch_other, kHurried).us});
        }
      measured.points.push_back(std::move(point));
    }
  }
  return report;
}

}  // namespace mpk
