#include "cli/pipeline/solve_bench.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "cli/pipeline/timer.hpp"
#include "kernels/gpu.hpp"
#include "packer/format/error.hpp"
#include "packer/format/float16.hpp"
#include "quantizer/cuda/gpu_quantizer.hpp"
#include "quantizer/cuda/random_layer.hpp"

namespace mpk {
namespace {

constexpr std::int64_t kChunk = 4096;  // tokens
constexpr std::size_t kRepeats = 3;

QuantizerOptions plain_options() {
  QuantizerOptions options;
  options.scheme.group_size = GroupSize{128};
  return options;
}
QuantizerOptions recipe_options() {
  QuantizerOptions options = plain_options();
  options.signed_scales = true;
  options.descent_sweeps = 4;
  return options;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

class SolveBench {
 public:
  SolveBenchRow operator()(const SolveShape& shape, bool compare) {
    const auto k = static_cast<std::size_t>(shape.k.value), n = static_cast<std::size_t>(shape.n.value);
    const DeviceBuffer<float> hessian = make_hessian(shape.k.value);
    DeviceBuffer<std::uint16_t> weight{k * n};
    SolveBenchRow row{shape, {}, {}, {}};
    row.plain = measure(shape, hessian, weight, plain_options(), 0);
    row.recipe = measure(shape, hessian, weight, recipe_options(), 0.5);
    if (compare) row.cpu_loss = on_cpu(shape, hessian, weight);
    return row;
  }

 private:
  DeviceBuffer<float> make_hessian(std::int64_t k) {
    DeviceBuffer<float> hessian{static_cast<std::size_t>(k * k)};
    DeviceBuffer<std::uint16_t> inputs{static_cast<std::size_t>(k * kChunk)};
    hessian.fill_bytes(0, stream_);
    for (std::int64_t token = 0; token < 2 * k; token += kChunk) {
      gpu_steps::random_inputs(k, kChunk, static_cast<std::uint64_t>(10 + 3 * token), inputs.data(), stream_);
      blas_.gemm(GpuOp::none, GpuOp::transpose, k, k, kChunk, 1, {inputs.data(), GpuFloat::bf16, k},
                 {inputs.data(), GpuFloat::bf16, k}, 1, {hessian.data(), GpuFloat::f32, k});
    }
    stream_.wait();
    return hessian;
  }

  SolveTimes measure(const SolveShape& shape, const DeviceBuffer<float>& hessian,
                     DeviceBuffer<std::uint16_t>& weight, const QuantizerOptions& options,
                     double correction) {
    DeviceBuffer<float> own{hessian.size()};
    std::vector<double> factor, solve;
    SolveTimes times;
    for (std::size_t i = 0; i <= kRepeats; ++i) {  // the first allocates
      fill(weight);
      copy(hessian, own);
      // With the Hessian as shift the corrected target is a multiple of the weight: work as usual, same loss.
      const GpuStatistics seen{own.data(), correction > 0 ? hessian.data() : nullptr, nullptr};
      stream_.wait();
      double factor_seconds = 0, solve_seconds = 0;
      {
        Timer timer{factor_seconds};
        quantizer_.begin(shape.k, seen, options);
        stream_.wait();
      }
      {
        Timer timer{solve_seconds};
        times.loss = quantizer_.solve(weight.data(), GpuFloat::bf16, shape.n, options, correction)
                         .linear.relative_loss;
      }
      if (i == 0) continue;
      factor.push_back(factor_seconds);
      solve.push_back(solve_seconds);
    }
    times.factor = median(factor);
    times.solve = median(solve);
    return times;
  }

  double on_cpu(const SolveShape& shape, const DeviceBuffer<float>& hessian,
                DeviceBuffer<std::uint16_t>& weight) {
    fill(weight);
    const std::vector<float> h = hessian.to_host(stream_);
    const std::vector<std::uint16_t> bits = weight.to_host(stream_);
    MatrixF symmetric = Eigen::Map<const MatrixF>{h.data(), shape.k.value, shape.k.value};
    symmetric.triangularView<Eigen::StrictlyUpper>() = symmetric.transpose();
    MatrixF w(shape.k.value, shape.n.value);
    for (std::size_t i = 0; i < bits.size(); ++i) w.data()[i] = bf16_to_float(bits[i]);
    return gptq({w, &symmetric}, plain_options()).relative_loss;
  }

  void fill(DeviceBuffer<std::uint16_t>& weight) {
    gpu_steps::random_weight(static_cast<std::int64_t>(weight.size()), 0.02f, 1, weight.data(), stream_);
  }
  void copy(const DeviceBuffer<float>& from, DeviceBuffer<float>& to) {
    MPK_CUDA(
        cudaMemcpyAsync(to.data(), from.data(), from.size_bytes(), cudaMemcpyDeviceToDevice, stream_.get()));
  }

  Stream stream_;
  Blas blas_{stream_};
  GpuQuantizer quantizer_{blas_};
};

}  // namespace

std::vector<SolveBenchRow> run_solve_bench(const std::vector<SolveShape>& shapes, bool compare,
                                           const std::function<void(const std::string&)>& progress) {
  if (!gpu_status().usable) throw Error{ErrorKind::device, gpu_status().reason};
  std::vector<SolveBenchRow> rows;
  SolveBench bench;
  for (const SolveShape& shape : shapes) {
    progress(fmt::format("solving {} inputs x {} outputs", shape.k.value, shape.n.value));
    rows.push_back(bench(shape, compare));
  }
  return rows;
}

}  // namespace mpk
