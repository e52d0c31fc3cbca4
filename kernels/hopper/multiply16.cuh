#pragma once
// One stage of the ring times another, with activations of 16 bits, by wgmma: weights are decoded to that
// type. Scales are applied to them, or to the sums of a group.

#include <cstdint>

#include "kernels/device/wgmma.cuh"
#include "kernels/hopper/stage_reader16.cuh"

namespace mpk {

template <class T>
struct WgmmaMultiplier16 : StageReader16<T> {
  using Reader = StageReader16<T>;
  using Reader::sums, Reader::words_at;
  using typename Reader::Words;
  static constexpr int kValues = HopperSums<T>::kValues;
  /// With scales on sums: the sums of the group at hand, unscaled; sums.acc then holds what is finished.
  float part[T::kScaleSums ? T::kFragments : 1][T::kScaleSums ? kValues : 1];
  bool part_empty;

  __device__ __forceinline__ explicit WgmmaMultiplier16(HopperSums<T>& s) : Reader{s} {}

  /// For the group that ends with `step`.
  __device__ __forceinline__ void fold(std::uint32_t stage, int step) {
    this->add_scaled(part, stage, step);
    part_empty = true;
  }

  /// Stage of the ring -> sums. `pending`: the stage read before, whose products may still be under way.
  __device__ __forceinline__ void multiply(int slot, int stage_step, int next_stage_step, int& pending) {
    const std::uint32_t stage = sums.memory.stage(slot);
    const std::uint64_t tile = wgmma_tile(stage + T::kActivationsAt);
    std::uint32_t a[T::kBuffers][T::kFragments][4];
    Words words[T::kWordBuffers];
    if constexpr (T::kWordBuffers == 2) this->load_words(stage + words_at, words[0]);
#pragma unroll
    for (int step = 0; step < T::kSteps; ++step) {
      if (T::kWordBuffers == 1)
        this->load_words(stage + words_at + step * T::kBoxRowBytes, words[0]);
      else if (step + 1 < T::kSteps)
        this->load_words(stage + words_at + (step + 1) * T::kBoxRowBytes, words[(step + 1) % 2]);
      this->begin_step(stage, step);
      auto& fragments = a[step % T::kBuffers];
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j)
        this->decode_fragment(words[step % T::kWordBuffers], j, fragments[j]);
      wgmma_fence();
      const std::uint64_t b = tile + T::step_offset(step);
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j)
        if constexpr (T::kScaleSums)
          wgmma<T::kFloat, T::kTileM>(part[j], fragments[j], b, !part_empty);
        else
          wgmma<T::kFloat, T::kTileM>(sums.acc[j], fragments[j], b, true);
      wgmma_commit();
      if constexpr (T::kScaleSums) {
        part_empty = false;
        // A group ends with its last row, or where another warpgroup goes on.
        const int next = step + 1 < T::kSteps ? stage_step + step + 1 : next_stage_step;
        if (step % 2 == 1 && ((stage_step + step) ^ next) >> sums.group_shift() != 0) {
          wgmma_wait<0>();
          fold(stage, step);
        } else {
          wgmma_wait<T::kBuffers - 1>();
        }
      } else {
        wgmma_wait<T::kBuffers - 1>();
      }
      if (step == 0) sums.memory.release(pending, sums.lane);
    }
    pending = slot;
    if constexpr (T::kScaleSums)
      if (part_empty)
        sums.memory.release(pending, sums.lane);  // who waits for copies must not hold room for them
  }

  __device__ __forceinline__ void begin_tile() {
    Reader::begin_tile();
    part_empty = true;
  }
  /// `pending` as above.
  __device__ __forceinline__ void end_tile(int pending) {
    wgmma_wait<0>();
    if constexpr (T::kScaleSums)
      if (!part_empty) fold(sums.memory.stage(pending), T::kSteps - 1);
  }
};

}  // namespace mpk
