#pragma once
// One stage of the ring times another, with activations of 16 bits: weights are decoded to that type. Scales
// are applied to them, or to the sums of a group.

#include <cstdint>

#include "kernels/device/cp_async.cuh"
#include "kernels/device/decode.cuh"
#include "kernels/device/wgmma.cuh"
#include "kernels/wgmma/lane_words.cuh"
#include "kernels/wgmma/tile_sums.cuh"

namespace mpk {

template <class T>
struct WgmmaMultiplier16 {
  WgmmaSums<T>& sums;
  static constexpr int kTilesPerBox = T::kBoxRowBytes / T::kTileBytes;
  static constexpr int kWords = T::kFragments * T::kBits / 4;  ///< of one lane and step
  static constexpr int kValues = WgmmaSums<T>::kValues;
  const std::uint32_t words_at = T::kWeightsAt + sums.tile_of_warp / kTilesPerBox * T::kBoxBytes +
                                 sums.tile_of_warp % kTilesPerBox * T::kTileBytes;
  const std::uint32_t pairs_at =  ///< of the 16-bit values of this lane's columns, among a row's
      sums.tile_of_warp * kTileN + grouped_scale_position(sums.lane, 2 * sums.first_fragment);
  const std::uint32_t scales_at = T::kScalesAt + pairs_at * T::kScaleSize;
  /// With scales on sums: the sums of the group at hand, unscaled; sums.acc then holds what is finished.
  float part[T::kScaleSums ? T::kFragments : 1][T::kScaleSums ? kValues : 1];
  std::uint32_t scales[T::kFragments];  ///< of columns 16 j + lane / 4 and 8 more, in two halves
  std::uint32_t zeros[T::kFragments];   ///< likewise, as decode() wants them
  bool part_empty;

  __device__ __forceinline__ explicit WgmmaMultiplier16(WgmmaSums<T>& s) : sums{s} {}

  using Words = LaneWords<kWords>;
  __device__ __forceinline__ void load_words(std::uint32_t at, Words& words) const {
    if constexpr (T::kBits == 4 && kWords == 4) {
      words.set(0, load_shared(at + sums.lane * 16));
    } else if constexpr (kWords == 1) {
      words.of[0] = load_shared_word(at + sums.lane * 16 + sums.first_fragment * 4);
    } else if constexpr (kWords == 2) {
      const uint2 v = load_shared2(at + sums.lane * T::kBits * 4 + sums.first_fragment * T::kBits);
      words.of[0] = v.x, words.of[1] = v.y;
    } else if constexpr (kWords == 4) {
      words.set(0, load_shared(at + sums.lane * 32 + sums.first_fragment * 8));
    } else {
      load_eight_words(at, sums.lane, words);
    }
  }

  __device__ __forceinline__ int row_of_scale(int step) const {
    return T::kSteps >> sums.group_shift() ? step >> sums.group_shift() : 0;
  }
  __device__ __forceinline__ void load_scales(std::uint32_t stage, int step) {
    const std::uint32_t at = stage + scales_at + row_of_scale(step) * T::kScaleRowBytes;
    if constexpr (T::kScaleSize == 2) {
      load_pairs(at, scales);
    } else if constexpr (T::kFragments == 4) {
      const uint2 v = load_shared2(at);
      decode_scales<T::kWeight, T::kFloat>(v.x, scales[0], scales[1]);
      decode_scales<T::kWeight, T::kFloat>(v.y, scales[2], scales[3]);
    } else {
      // Four columns stand together, and one warp's fragments are two of their pairs, or one.
      std::uint32_t pairs[2];
      decode_scales<T::kWeight, T::kFloat>(load_shared_word(at / 4 * 4), pairs[0], pairs[1]);
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j) scales[j] = (sums.first_fragment + j) % 2 ? pairs[1] : pairs[0];
    }
  }
  static __device__ __forceinline__ void load_pairs(std::uint32_t at, std::uint32_t (&pairs)[T::kFragments]) {
    if constexpr (T::kFragments == 4) {
      const uint4 v = load_shared(at);
      pairs[0] = v.x, pairs[1] = v.y, pairs[2] = v.z, pairs[3] = v.w;
    } else if constexpr (T::kFragments == 2) {
      const uint2 v = load_shared2(at);
      pairs[0] = v.x, pairs[1] = v.y;
    } else {
      pairs[0] = load_shared_word(at);
    }
  }
  __device__ __forceinline__ void load_zeros(std::uint32_t stage, int step) {
    const std::uint32_t at = stage + T::kZerosAt + row_of_scale(step) * T::kZeroRowBytes;
    if constexpr (T::kZeroBits == 4) {
      const std::uint32_t word = load_shared_word(at + sums.tile_of_warp * (kTileN / 2) + sums.lane / 4 * 4);
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j)
        zeros[j] = decode_zeros<T::kFloat>(word, sums.first_fragment + j);
    } else {
      load_pairs(at + pairs_at * 2, zeros);
    }
  }
  /// acc += scale * part, for the group that ends with `step`.
  __device__ __forceinline__ void fold(std::uint32_t stage, int step) {
    if (sums.grouped()) load_scales(stage, step);
#pragma unroll
    for (int j = 0; j < T::kFragments; ++j) {
      const float2 s = to_floats<T::kFloat>(scales[j]);
#pragma unroll
      for (int i = 0; i < kValues; ++i)
        sums.acc[j][i] = __fmaf_rn(i / 2 % 2 ? s.y : s.x, part[j][i], sums.acc[j][i]);
    }
    part_empty = true;
  }

  /// Stage of the ring -> sums. `pending`: the stage read before, whose products may still be under way.
  __device__ __forceinline__ void multiply(int slot, int stage_step, int next_stage_step, int& pending) {
    const std::uint32_t stage = sums.memory.stage(slot);
    const std::uint64_t tile = wgmma_tile(stage + T::kActivationsAt);
    std::uint32_t a[T::kBuffers][T::kFragments][4];
    Words words[T::kWordBuffers];
    if constexpr (T::kWordBuffers == 2) load_words(stage + words_at, words[0]);
#pragma unroll
    for (int step = 0; step < T::kSteps; ++step) {
      if (T::kWordBuffers == 1)
        load_words(stage + words_at + step * T::kBoxRowBytes, words[0]);
      else if (step + 1 < T::kSteps)
        load_words(stage + words_at + (step + 1) * T::kBoxRowBytes, words[(step + 1) % 2]);
      if (step % T::kStepsPerScale == 0 && (step == 0 || (step & ((1 << sums.group_shift()) - 1)) == 0)) {
        if constexpr (!T::kScaleSums)
          if (sums.grouped()) load_scales(stage, step);
        if constexpr (T::kZeroBits > 0) load_zeros(stage, step);
      }
      auto& fragments = a[step % T::kBuffers];
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j) {
        if constexpr (T::kZeroBits > 0)
          decode<T::kWeight, T::kFloat>(words[step % T::kWordBuffers].of, j, fragments[j], zeros[j]);
        else
          decode<T::kWeight, T::kFloat>(words[step % T::kWordBuffers].of, j, fragments[j]);
        if constexpr (!T::kScaleSums) scale<T::kFloat>(fragments[j], scales[j]);
      }
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
    sums.clear();
    if (!sums.grouped())
#pragma unroll
      for (std::uint32_t& s : scales)
        s = round_to<T::kFloat>(kUnscaled<T::kWeight, T::kFloat>, kUnscaled<T::kWeight, T::kFloat>);
    part_empty = true;
  }
  /// All products have ended. `pending` as above.
  __device__ __forceinline__ void end_tile(int pending) {
    if constexpr (T::kScaleSums)
      if (!part_empty) fold(sums.memory.stage(pending), T::kSteps - 1);
  }
};

}  // namespace mpk
