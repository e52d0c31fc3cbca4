// One block of inputs of coordinate descent (descent.hpp has the steps), one thread per output.

#include "quantizer/cuda/levels.cuh"

namespace mpk::gpu_steps {
namespace {

constexpr int kThreads = 64, kPart = 32;
constexpr int kBatch = 8;         // loads from memory on their way together
constexpr int kRow = kBlock + 4;  // of the Hessian in shared memory: 16-byte aligned, banks apart
// The Hessian's square, gradients, levels, and the changes of one part.
constexpr int kSharedBytes =
    (kBlock * kRow + (2 * kBlock + kPart) * kThreads) * static_cast<int>(sizeof(float));

__device__ float refitted(float scale, float slope, float curvature, const CodeSpace& space) {
  if (!(curvature > 0)) return scale;
  const float stored = representable(scale - slope / curvature, space);
  const float step = stored - scale;
  const bool falls = step * (2 * slope + step * curvature) < 0;
  return !isinf(stored) && falls && signbit(stored) == signbit(scale) ? stored : scale;
}

/// sum[j] += value * r[j] for 32 neighbours in shared memory
__device__ __forceinline__ void add_row(float (&sum)[kPart], float value, const float* r) {
  const float4* row = reinterpret_cast<const float4*>(r);
#pragma unroll
  for (int q = 0; q < kPart / 4; ++q) {
    const float4 v = row[q];
    sum[4 * q] += value * v.x, sum[4 * q + 1] += value * v.y;
    sum[4 * q + 2] += value * v.z, sum[4 * q + 3] += value * v.w;
  }
}

__global__ void __launch_bounds__(kThreads)
    descend_kernel(DescentState s, std::int64_t begin, int width, bool refit_scales, float* change) {
  extern __shared__ float shared[];
  float* hessian = shared;                                 // [i][j], damped
  float* gradient = shared + kBlock * kRow + threadIdx.x;  // [i][thread]
  float* levels = gradient + kBlock * kThreads;            // [i][thread]
  float* changes = levels + kBlock * kThreads;             // [i of the part][thread]
  for (int at = threadIdx.x; at < kBlock * kBlock; at += kThreads) {
    const int i = at % kBlock, j = at / kBlock;
    float value = i < width && j < width ? s.hessian[begin + i + (begin + j) * s.k] : 0.0f;
    if (i == j) value += s.damping;
    hessian[j * kRow + i] = value;
  }
  const std::int64_t col = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
  const bool inside = col < s.n;
  const std::int64_t row = inside ? col : s.n - 1;
  const auto range_of = [&](int i) { return row + (begin + i) / s.ranges.rows_per_group * s.n; };
  const auto zero_of = [&](std::int64_t range) {
    return s.space.stored_zeros ? s.ranges.zeros[range] : s.space.bias;
  };
  for (int part = 0; part < kBlock; part += kBatch) {  // loads first: they wait for memory together
    float g[kBatch], e[kBatch];
    std::uint8_t code[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const bool is = part + i < width;
      const std::int64_t at = row + (begin + (is ? part + i : 0)) * s.n;
      g[i] = s.gradient[at], e[i] = s.error[at], code[i] = s.codes[at];
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int at = part + i;
      gradient[at * kThreads] = at < width ? g[i] + s.damping * e[i] : 0.0f;
      levels[at * kThreads] = at < width ? static_cast<float>(code[i]) - zero_of(range_of(at)) : 0.0f;
    }
  }
  __syncthreads();

  for (int first = 0, last; first < width; first = last) {  // a group, or its part in this block
    const std::int64_t left = s.ranges.rows_per_group - (begin + first) % s.ranges.rows_per_group;
    last = static_cast<int>(min(std::int64_t{width}, first + left));
    const std::int64_t range = range_of(first);
    const float old_scale = s.ranges.scales[range], lowest = -zero_of(range),
                highest = lowest + s.space.max_code;
    float scale = old_scale;
    if (refit_scales) {
      float slope = 0, curvature = 0;
      for (int to = first / kPart * kPart; to < last; to += kPart) {
        float image[kPart] = {};
        for (int j = first; j < last; ++j) add_row(image, levels[j * kThreads], hessian + j * kRow + to);
#pragma unroll
        for (int i = 0; i < kPart; ++i)
          if (to + i >= first && to + i < last) {
            slope += levels[(to + i) * kThreads] * gradient[(to + i) * kThreads];
            curvature += levels[(to + i) * kThreads] * image[i];
          }
      }
      scale = refitted(old_scale, slope, curvature, s.space);
      const float step = scale - old_scale;
      for (int to = first / kPart * kPart; to < width; to += kPart) {
        float image[kPart] = {};
        for (int j = first; j < last; ++j)
          add_row(image, step * levels[j * kThreads], hessian + j * kRow + to);
#pragma unroll
        for (int i = 0; i < kPart; ++i) gradient[(to + i) * kThreads] += image[i];
      }
    }
    // Parts are aligned to 32 inputs; a group's first and last may be shared with its neighbours.
    for (int part = first / kPart * kPart; part < last; part += kPart) {
      float sum[kPart];
#pragma unroll
      for (int i = 0; i < kPart; ++i) sum[i] = gradient[(part + i) * kThreads], changes[i * kThreads] = 0.0f;
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
        const int at = part + i;
        if (at < first || at >= last) continue;
        const float* h = hessian + at * kRow + part;
        const float curvature = h[i], level = levels[at * kThreads];
        if (!(curvature > 0)) continue;
        const float nearest = nearest_level(level - sum[i] / (curvature * scale), lowest, highest);
        const float moved = (nearest - level) * scale;
        levels[at * kThreads] = nearest;
        changes[i * kThreads] = moved;
#pragma unroll
        for (int j = 0; j < kPart; ++j) sum[j] += moved * h[j];
      }
#pragma unroll
      for (int i = 0; i < kPart; ++i) gradient[(part + i) * kThreads] = sum[i];
      for (int to = part + kPart; to < width; to += kPart) {
        float later[kPart];
#pragma unroll
        for (int i = 0; i < kPart; ++i) later[i] = gradient[(to + i) * kThreads];
        for (int j = 0; j < kPart; ++j)
          add_row(later, changes[j * kThreads], hessian + (part + j) * kRow + to);
#pragma unroll
        for (int i = 0; i < kPart; ++i) gradient[(to + i) * kThreads] = later[i];
      }
    }
    if (!inside) continue;
    s.ranges.scales[range] = scale;
    for (int part = first; part < last; part += kBatch) {
      float e[kBatch];
      std::uint8_t code[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const std::int64_t at = row + (begin + min(part + i, last - 1)) * s.n;
        e[i] = s.error[at], code[i] = s.codes[at];
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (part + i >= last) continue;
        const std::int64_t at = row + (begin + part + i) * s.n;
        const float level = levels[(part + i) * kThreads], before = static_cast<float>(code[i]) + lowest;
        const float moved = level * scale - before * old_scale;
        s.codes[at] = static_cast<std::uint8_t>(static_cast<int>(level - lowest));
        s.error[at] = e[i] + moved;
        change[row + std::int64_t{part + i} * s.n] = moved;
      }
    }
  }
}

__global__ void load_levels_kernel(std::int64_t n, const std::uint8_t* codes, CodeSpace space,
                                   GroupRanges ranges, float* levels) {
  const std::int64_t row = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x, col = blockIdx.y;
  if (row >= n) return;
  const float zero = space.stored_zeros ? ranges.zeros[row + col / ranges.rows_per_group * n] : space.bias;
  levels[row + col * n] = static_cast<float>(codes[row + col * n]) - zero;
}

/// image: levels * hessian, not yet damped.
__global__ void refit_columns_kernel(DescentState s, const float* levels, const float* image) {
  const std::int64_t row = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x;
  if (row >= s.n) return;
  double slope = 0, curvature = 0;
  for (std::int64_t at = row; at < s.n * s.k; at += s.n) {
    const double damped = image[at] + static_cast<double>(s.damping) * levels[at];
    slope += s.error[at] * damped;
    curvature += levels[at] * damped;
  }
  const float before = s.ranges.scales[row];
  const float scale = refitted(before, static_cast<float>(slope), static_cast<float>(curvature), s.space);
  s.ranges.scales[row] = scale;
  for (std::int64_t at = row; at < s.n * s.k; at += s.n) s.error[at] += (scale - before) * levels[at];
}

constexpr int kRowThreads = 256;

}  // namespace

void descend_block(const DescentState& state, std::int64_t begin, std::int64_t end, bool refit_scales,
                   float* change, const Stream& stream) {
  static const bool once = [] {
    MPK_CUDA(cudaFuncSetAttribute(descend_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
    return true;
  }();
  (void)once;
  descend_kernel<<<blocks_for(state.n, kThreads), kThreads, kSharedBytes, stream.get()>>>(
      state, begin, static_cast<int>(end - begin), refit_scales, change);
  check_launch("descend_block");
}
void load_levels(std::int64_t n, std::int64_t k, const std::uint8_t* codes, const CodeSpace& space,
                 const GroupRanges& ranges, float* levels, const Stream& stream) {
  load_levels_kernel<<<dim3{blocks_for(n, kRowThreads), static_cast<unsigned>(k)}, kRowThreads, 0,
                       stream.get()>>>(n, codes, space, ranges, levels);
  check_launch("load_levels");
}
void refit_columns(const DescentState& state, const float* levels, const float* image, const Stream& stream) {
  refit_columns_kernel<<<blocks_for(state.n, 64), 64, 0, stream.get()>>>(state, levels, image);
  check_launch("refit_columns");
}

}  // namespace mpk::gpu_steps
