// The range search of quantizer/ranges.cpp, one thread per group of one output.

#include <cfloat>

#include "quantizer/cuda/levels.cuh"
#include "quantizer/distance.hpp"

namespace mpk::gpu_steps {
namespace {

constexpr int kThreads = 64;
constexpr int kStretch = 64;      // weights between two looks at the limit
constexpr int kSharedRows = 128;  // a group of up to so many weights is kept in shared memory

/// The group's weights, from shared memory or, a whole column being one group, from where they are.
struct GroupWeights {
  const float* data;
  std::int64_t step;
  __device__ float operator[](int i) const { return data[i * step]; }
};

__device__ float sum_distance(const GroupWeights& weights, int rows, const float* importance,
                              float inverse_scale, float lowest, float highest, float limit) {
  float total = 0;
  for (int begin = 0; begin < rows && total <= limit; begin += kStretch) {
    const int end = min(begin + kStretch, rows);
    float sum = 0;
#pragma unroll 4
    for (int i = begin; i < end; ++i) {
      const float w = weights[i] * inverse_scale;
      sum += (importance ? importance[i] : 1.0f) * power_2_4(w - nearest_level(w, lowest, highest));
    }
    total += sum;
  }
  return total;
}

__global__ void __launch_bounds__(kThreads)
    find_ranges_kernel(std::int64_t n, std::int64_t first_group, const float* weight, const float* importance,
                       const float* factors, int num_factors, CodeSpace space, GroupRanges ranges,
                       std::uint32_t* too_large) {
  __shared__ float shared[kSharedRows * kThreads];
  const std::int64_t col = blockIdx.x * std::int64_t{kThreads} + threadIdx.x, group = blockIdx.y;
  if (col >= n) return;
  const int rows = static_cast<int>(ranges.rows_per_group);
  GroupWeights weights{weight + col + group * rows * n, n};
  float low = 0, high = 0;
  if (rows <= kSharedRows) {
    for (int i = 0; i < rows; ++i) shared[i * kThreads + threadIdx.x] = weights[i];
    weights = {shared + threadIdx.x, kThreads};
  }
  for (int i = 0; i < rows; ++i) low = fminf(low, weights[i]), high = fmaxf(high, weights[i]);
  const float* counts = importance ? importance + group * rows : nullptr;

  const float max_code = space.max_code, largest = fmaxf(high, -low);
  const float span = space.stored_zeros ? high - low : 2 * largest, unit = span / max_code;
  const auto as_zero = [&](float value) { return fminf(fmaxf(rintf(value), 1.0f), max_code); };
  const float middle = space.stored_zeros ? as_zero(span > 0 ? -low / unit : max_code / 2) : space.bias;
  float best_scale = representable(unit, space), best_zero = middle;
  if (isinf(best_scale)) atomicMax(too_large, __float_as_uint(unit));
  if (num_factors > 1 && largest > 0) {
    const float first_zero = space.stored_zeros ? as_zero(middle - 1) : middle,
                last_zero = space.stored_zeros ? as_zero(middle + 1) : middle;
    float least = INFINITY;
    for (int f = 0; f < num_factors; ++f) {
      const float scale = representable(unit * factors[f], space);
      if (isinf(scale)) continue;
      const float weight_of_unit = powf(fabsf(scale) / largest, 2.4f);
      for (float zero = first_zero; zero <= last_zero; ++zero) {
        const float sum = weight_of_unit * sum_distance(weights, rows, counts, 1.0f / scale, -zero,
                                                        max_code - zero, least / weight_of_unit);
        if (sum < least) least = sum, best_scale = scale, best_zero = zero;
      }
    }
  }
  const std::int64_t at = col + (first_group + group) * n;
  ranges.scales[at] = best_scale;
  if (space.stored_zeros) ranges.zeros[at] = best_zero;
}

}  // namespace

void find_ranges(std::int64_t n, std::int64_t groups, std::int64_t first_group, const float* weight,
                 const float* importance, const float* factors, int num_factors, const CodeSpace& space,
                 const GroupRanges& ranges, std::uint32_t* too_large, const Stream& stream) {
  find_ranges_kernel<<<dim3{blocks_for(n, kThreads), static_cast<unsigned>(groups)}, kThreads, 0,
                       stream.get()>>>(n, first_group, weight, importance, factors, num_factors, space,
                                       ranges, too_large);
  check_launch("find_ranges");
}

}  // namespace mpk::gpu_steps
