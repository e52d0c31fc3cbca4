#pragma once
// A stage of the ring: weights times activations of 16 bits, by wgmma: weights are decoded to that type;
// scales are applied to them or to the sums of a group.

#include <cstdint>

#include "kernels/device/wgmma.cuh"
#include "kernels/hopper/stage_reader16.cuh"

namespace mpk {

template <class T>
struct WgmmaMultiplier16 : StageReader16<T> {
  using Reader = StageReader16<T>;
  using Reader::sums, Reader::words_at;
  using typename Reader::Words;
  /// With scales on sums: those of the group at hand, unscaled; sums.acc then holds what is finished.
  float part[T::kFragments][HopperSums<T>::kValues];
  Words words[T::kWordBuffers];  ///< of the step at hand, and of the one behind it

  __device__ __forceinline__ explicit WgmmaMultiplier16(HopperSums<T>& s) : Reader{s} {}

  __device__ __forceinline__ void begin_stage(int slot) {
    const std::uint32_t stage = sums.memory.stage(slot);
    this->load_words(stage + words_at, words[0]);
    this->template begin_step<>(stage, 0);
  }

  template <bool kInGroup, class Ahead>
  __device__ __forceinline__ void multiply_stage(std::uint32_t stage, int& pending, Ahead ahead) {
    const std::uint64_t tile = wgmma_tile(stage + T::kActivationsAt);
    std::uint32_t a[T::kBuffers][T::kFragments][4];
    bool part_empty = true;
#pragma unroll
    for (int step = 0; step < T::kSteps; ++step) {
      if (T::kWordBuffers == 1 && step > 0)
        this->load_words(stage + words_at + step * T::kBoxRowBytes, words[0]);
      else if (T::kWordBuffers == 2 && step + 1 < T::kSteps)
        this->load_words(stage + words_at + (step + 1) * T::kBoxRowBytes, words[(step + 1) % 2]);
      if (step > 0) this->template begin_step<kInGroup>(stage, step);
      auto& fragments = a[step % T::kBuffers];
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j)
        this->decode_fragment(words[step % T::kWordBuffers], j, fragments[j]);
      wgmma_fence();
      const std::uint64_t b = tile + T::step_offset(step);
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j)
        wgmma<T::kFloat, T::kTileM>(T::kScaleSums ? part[j] : sums.acc[j], fragments[j], b,
                                    !T::kScaleSums || !part_empty);
      wgmma_commit();
      part_empty = false;
      if (T::kScaleSums && this->template ends_group<kInGroup>(step)) {
        this->load_scales_of_sums(stage, step);
        wgmma_wait<0>();
#pragma unroll
        for (int j = 0; j < T::kFragments; ++j) {
#pragma unroll
          for (float& value : part[j]) wgmma_pin(value);
          this->add_scaled(j, part[j]);
        }
        part_empty = true;
        if (step + 1 == T::kSteps) ahead();
      } else {
        if (step + 1 == T::kSteps) ahead();
        wgmma_wait<T::kBuffers - 1>();
      }
      if (step == 0) sums.memory.release(pending, sums.lane);
    }
  }

  /// Stage of the ring -> sums. It has begun; `ahead()` begins the next. `pending`: the stage read before,
  /// whose products may still be under way.
  template <class Ahead>
  __device__ __forceinline__ void multiply(int slot, int& pending, Ahead ahead) {
    const std::uint32_t stage = sums.memory.stage(slot);
    if (T::kScaleSums && this->stage_in_group())
      multiply_stage<true>(stage, pending, ahead);
    else
      multiply_stage<false>(stage, pending, ahead);
    pending = slot;
    if constexpr (T::kScaleSums)  // nothing of it is under way
      sums.memory.release(pending, sums.lane, this->scales[T::kFragments - 1]);
  }
  __device__ __forceinline__ void end_tile() const {
    wgmma_wait<0>();
  }
};

}  // namespace mpk
