#pragma once
// One stage of the ring times another, with activations of 16 bits, by wgmma: weights are decoded to that
// type, and scaled.

#include <cstdint>

#include "kernels/device/wgmma.cuh"
#include "kernels/hopper/stage_reader16.cuh"

namespace mpk {

template <class T>
struct WgmmaMultiplier16 : StageReader16<T> {
  using Reader = StageReader16<T>;
  using Reader::sums, Reader::words_at;
  using typename Reader::Words;
  static_assert(!T::kScaleSums);

  __device__ __forceinline__ explicit WgmmaMultiplier16(HopperSums<T>& s) : Reader{s} {}

  /// Stage of the ring -> sums. `pending`: the stage read before, whose products may still be under way.
  __device__ __forceinline__ void multiply(int slot, int& pending) {
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
      for (int j = 0; j < T::kFragments; ++j) wgmma<T::kFloat, T::kTileM>(sums.acc[j], fragments[j], b, true);
      wgmma_commit();
      wgmma_wait<T::kBuffers - 1>();
      if (step == 0) sums.memory.release(pending, sums.lane);
    }
    pending = slot;
  }
  __device__ __forceinline__ void end_tile() const {
    wgmma_wait<0>();
  }
};

}  // namespace mpk
