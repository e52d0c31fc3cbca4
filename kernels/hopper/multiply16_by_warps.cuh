#pragma once
// One stage of the ring times another, with activations of 16 bits and 8 or 16 rows of them: every warp for
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
  static constexpr int kEights = T::kTileM / kMmaN;  ///< of rows
  static_assert(T::kTileM == kEights * kMmaN && T::kFragments == 4 && T::kStepsPerScale <= 2);
  /// With scales on sums: those of the group at hand, unscaled; sums.acc then holds what is finished.
  float part[T::kFragments][kEights * 4];
  /// ldmatrix takes 8 rows of two steps: matrix i is register i % 2 of step i / 2. Where this lane's row
  /// of its matrix is in a panel.
  const int row_at = activation_chunk<8>(sums.lane % 8, sums.lane / 8) * kChunkBytes;

  __device__ __forceinline__ explicit WarpMultiplier16(HopperSums<T>& s) : Reader{s} {}

  struct Rows {
    FragmentA of[kEights];
  };
  __device__ __forceinline__ void load_rows(std::uint32_t stage, int step, Rows& rows) const {
    const std::uint32_t at = stage + T::kActivationsAt + step / 4 * T::kPanelBytes + (row_at ^ step % 4 * 32);
#pragma unroll
    for (int eight = 0; eight < kEights; ++eight)
      rows.of[eight] = ldmatrix_x4(at + eight * (T::kPanelBytes / kEights));
  }
  __device__ __forceinline__ void multiply_step(const Words& words, const Rows& rows, int odd) {
#pragma unroll
    for (int j = 0; j < T::kFragments; ++j) {
      FragmentA weights;
      this->decode_fragment(words, j, weights.reg);
#pragma unroll
      for (int eight = 0; eight < kEights; ++eight) {
        const FragmentB b{{rows.of[eight].reg[2 * odd], rows.of[eight].reg[2 * odd + 1]}};
        auto& of_tile = T::kScaleSums ? part[j] : sums.acc[j];
        mma<T::kFloat>(reinterpret_cast<float(&)[kEights][4]>(of_tile)[eight], weights, b);
      }
    }
  }

  /// Words and rows are loaded as long before they are wanted as registers allow.
  template <bool kInGroup>
  __device__ __forceinline__ void multiply_stage(std::uint32_t stage) {
    constexpr int kAhead = (T::kBits == 8 ? 1 : 2) - (kInGroup ? 0 : 1), kPairsAhead = kInGroup ? 1 : 0;
    const std::uint32_t words_here = stage + words_at;
    Words words[kAhead + 1];
    Rows rows[kPairsAhead + 1];
#pragma unroll
    for (int step = 0; step < kAhead; ++step)
      this->load_words(words_here + step * T::kBoxRowBytes, words[step]);
    if constexpr (kPairsAhead > 0) load_rows(stage, 0, rows[0]);
    if constexpr (T::kScaleSums) set_to_zero(part);
#pragma unroll
    for (int step = 0; step < T::kSteps; ++step) {
      if (const int ahead = step + kAhead; ahead < T::kSteps)
        this->load_words(words_here + ahead * T::kBoxRowBytes, words[ahead % (kAhead + 1)]);
      if (const int pair = step / 2 + kPairsAhead; step % 2 == 0 && 2 * pair < T::kSteps)
        load_rows(stage, 2 * pair, rows[pair % (kPairsAhead + 1)]);
      this->template begin_step<kInGroup>(stage, step);
      multiply_step(words[step % (kAhead + 1)], rows[step / 2 % (kPairsAhead + 1)], step % 2);
      if constexpr (T::kScaleSums)
        if (this->template ends_group<kInGroup>(step)) {
          this->load_scales_of_sums(stage, step);
#pragma unroll
          for (int j = 0; j < T::kFragments; ++j) this->add_scaled(j, part[j]);
          set_to_zero(part);
        }
    }
  }

  /// Stage of the ring -> sums.
  __device__ __forceinline__ void multiply(int slot, int& pending) {
    const std::uint32_t stage = sums.memory.stage(slot);
    if (this->stage_in_group())
      multiply_stage<true>(stage);
    else
      multiply_stage<false>(stage);
    pending = slot;
    __syncwarp();
    sums.memory.release(pending, sums.lane);
  }
  __device__ __forceinline__ void end_tile() const {}
};

}  // namespace mpk
