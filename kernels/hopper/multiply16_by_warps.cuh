#pragma once
// One stage of the ring times another, with activations of 16 bits and up to 8 rows of them: every warp for
// itself, by mma.sync, so that none waits for three others. Weights are the instruction's A, as they are for
// wgmma, and 8 rows of activations its B. That leaves half of the tensor cores' rate, which is enough:
// decoding takes longer.

#include <cstdint>

#include "kernels/device/mma.cuh"
#include "kernels/device/swizzle.cuh"
#include "kernels/hopper/stage_reader16.cuh"

namespace mpk {

template <class T>
struct WarpMultiplier16 : StageReader16<T> {
  using Reader = StageReader16<T>;
  using Reader::sums, Reader::words_at;
  using typename Reader::Words;
  static_assert(T::kTileM == kMmaN && T::kFragments == 4 && T::kStepsPerScale <= 2);
  /// With scales on sums: those of the group at hand, unscaled; sums.acc then holds what is finished.
  float part[T::kFragments][4];
  /// ldmatrix takes the 8 rows of two steps: matrix i is register i % 2 of step i / 2. Where this lane's row
  /// of its matrix is in a panel.
  const int row_at = activation_chunk<8>(sums.lane % 8, sums.lane / 8) * kChunkBytes;

  __device__ __forceinline__ explicit WarpMultiplier16(HopperSums<T>& s) : Reader{s} {}

  __device__ __forceinline__ void multiply_step(const Words& words, const FragmentB& activations) {
#pragma unroll
    for (int j = 0; j < T::kFragments; ++j) {
      FragmentA weights;
      this->decode_fragment(words, j, weights.reg);
      mma<T::kFloat>(T::kScaleSums ? part[j] : sums.acc[j], weights, activations);
    }
  }

  /// Stage of the ring -> sums.
  __device__ __forceinline__ void multiply(int slot, int, int, int& pending) {
    const std::uint32_t stage = sums.memory.stage(slot), words_here = stage + words_at;
    Words even, odd;
    if constexpr (T::kScaleSums) set_to_zero(part);
    this->load_words(words_here, even);
#pragma unroll
    for (int step = 0; step < T::kSteps; step += 2) {
      this->load_words(words_here + (step + 1) * T::kBoxRowBytes, odd);
      const FragmentA rows =
          ldmatrix_x4(stage + T::kActivationsAt + step / 4 * T::kPanelBytes + (row_at ^ step % 4 * 32));
      this->begin_step(stage, step);
      multiply_step(even, {{rows.reg[0], rows.reg[1]}});
      if (step + 2 < T::kSteps) this->load_words(words_here + (step + 2) * T::kBoxRowBytes, even);
      this->begin_step(stage, step + 1);
      multiply_step(odd, {{rows.reg[2], rows.reg[3]}});
      if constexpr (T::kScaleSums)  // a group ends, or another team goes on
        if (step + 2 == T::kSteps || ((step + 2) & ((1 << sums.group_shift()) - 1)) == 0) {
          this->add_scaled(part, stage, step + 1);
          set_to_zero(part);
        }
    }
    pending = slot;
    __syncwarp();
    sums.memory.release(pending, sums.lane);
  }
  __device__ __forceinline__ void end_tile(int) const {}
};

}  // namespace mpk
