#pragma once
// A stage of the ring: weights times activations of 16 bits, 8 or 16 rows of them: every warp for itself, by
// mma.sync, so that none waits for three others. Weights are the instruction's A, as they are for wgmma, and
// 8 rows of activations its B. That leaves half of the tensor cores' rate, which is enough: decoding takes
// longer.

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
  static_assert(T::kTileM == kEights * kMmaN && T::kStepsPerScale <= 2);
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

  // Words and rows are loaded as long before they are wanted as registers allow: so many steps, and pairs of
  // steps.
  template <bool kInGroup>
  static constexpr int kAhead = (T::kBits == 8 ? 1 : 2) - (kInGroup ? 0 : 1);
  static constexpr int kPairsAheadInGroup = T::kBits * T::kTileM < 128 ? 1 : 0;
  template <bool kInGroup>
  static constexpr int kPairsAhead = kInGroup ? kPairsAheadInGroup : 0;
  Words words[kAhead<true> + 1];
  Rows rows[kPairsAhead<true> + 1];

  template <bool kInGroup>
  __device__ __forceinline__ void load_first(std::uint32_t stage) {
#pragma unroll
    for (int step = 0; step < kAhead<kInGroup>; ++step)
      this->load_words(stage + words_at + step * T::kBoxRowBytes, words[step]);
    constexpr int kPairs = kPairsAhead<kInGroup>;
    if constexpr (kPairs > 0) load_rows(stage, 0, rows[0]);
  }
  __device__ __forceinline__ void begin_stage(int slot) {
    const std::uint32_t stage = sums.memory.stage(slot);
    if (this->stage_in_group())
      load_first<true>(stage);
    else
      load_first<false>(stage);
  }

  /// `read(last)`: nothing more of the stage is wanted behind the load that brought `last`.
  template <bool kInGroup, class Read>
  __device__ __forceinline__ void multiply_stage(std::uint32_t stage, Read read) {
    constexpr int kWordsHeld = kAhead<kInGroup> + 1, kPairsHeld = kPairsAhead<kInGroup> + 1;
    if constexpr (T::kScaleSums) set_to_zero(part);
#pragma unroll
    for (int step = 0; step < T::kSteps; ++step) {
      if (const int ahead = step + kWordsHeld - 1; ahead < T::kSteps)
        this->load_words(stage + words_at + ahead * T::kBoxRowBytes, words[ahead % kWordsHeld]);
      if (const int pair = step / 2 + kPairsHeld - 1; step % 2 == 0 && 2 * pair < T::kSteps)
        load_rows(stage, 2 * pair, rows[pair % kPairsHeld]);
      this->template begin_step<kInGroup>(stage, step);
      multiply_step(words[step % kWordsHeld], rows[step / 2 % kPairsHeld], step % 2);
      if constexpr (T::kScaleSums)
        if (this->template ends_group<kInGroup>(step)) {
          this->load_scales_of_sums(stage, step);
          if (step + 1 == T::kSteps) read(this->scales[T::kFragments - 1]);
#pragma unroll
          for (int j = 0; j < T::kFragments; ++j) this->add_scaled(j, part[j]);
          if (step + 1 < T::kSteps) set_to_zero(part);
        }
    }
    if constexpr (!T::kScaleSums) read(words[(T::kSteps - 1) % kWordsHeld].of[Reader::kWords - 1]);
  }

  /// Stage of the ring -> sums. It has begun; `ahead()` begins the next.
  template <class Ahead>
  __device__ __forceinline__ void multiply(int slot, int& pending, Ahead ahead) {
    const std::uint32_t stage = sums.memory.stage(slot);
    const auto read = [&](std::uint32_t last) {
      pending = slot;
      __syncwarp();
      sums.memory.release(pending, sums.lane, last);
      ahead();
    };
    if (this->stage_in_group())
      multiply_stage<true>(stage, read);
    else
      multiply_stage<false>(stage, read);
  }
  __device__ __forceinline__ void end_tile() const {}
};

}  // namespace mpk
