#pragma once
// The sums of a block's tile while they are summed: a thread's accumulators.

#include "kernels/hopper/stage_copier.cuh"
#include "kernels/hopper/warp_place.cuh"

namespace mpk {

template <int kFragments, int kValues>
__device__ __forceinline__ void set_to_zero(float (&sums)[kFragments][kValues]) {
#pragma unroll
  for (auto& fragment : sums)
#pragma unroll
    for (float& value : fragment) value = 0.0f;
}

template <class T>
struct HopperSums : WarpPlace<T> {
  const HopperArgs& args;
  const HopperMemory<T> memory;
  static constexpr int kValues = T::kTileM / 2;  ///< of one thread and fragment
  float acc[T::kFragments][kValues];

  __device__ __forceinline__ HopperSums(const HopperArgs& a, const HopperMemory<T>& m)
      : WarpPlace<T>{static_cast<int>(threadIdx.x)}, args{a}, memory{m} {}

  __device__ __forceinline__ bool grouped() const { return T::kGroupShift >= 0 || args.grouped; }
  __device__ __forceinline__ int group_shift() const {
    return T::kGroupShift >= 0 ? T::kGroupShift : args.group_shift;
  }
};

}  // namespace mpk
