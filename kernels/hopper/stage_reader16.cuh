#pragma once
// What a lane reads of a stage, with activations of 16 bits, whoever multiplies: the words of its 64 columns,
// their scales and zero points; and what becomes of them.

#include <cstdint>

#include "kernels/device/cp_async.cuh"
#include "kernels/device/decode.cuh"
#include "kernels/hopper/lane_words.cuh"
#include "kernels/hopper/tile_sums.cuh"

namespace mpk {

template <class T>
struct StageReader16 {
  HopperSums<T>& sums;
  static constexpr int kTilesPerBox = T::kBoxRowBytes / T::kTileBytes;
  static constexpr int kWords = T::kFragments * T::kBits / 4;  ///< of one lane and step
  const std::uint32_t words_at = T::kWeightsAt + sums.tile_of_warp / kTilesPerBox * T::kBoxBytes +
                                 sums.tile_of_warp % kTilesPerBox * T::kTileBytes;
  const std::uint32_t pairs_at =  ///< of the 16-bit values of this lane's columns, among a row's
      sums.tile_of_warp * kTileN + grouped_scale_position(sums.lane, 2 * sums.first_fragment);
  const std::uint32_t scales_at = T::kScalesAt + pairs_at * T::kScaleSize;
  std::uint32_t scales[T::kFragments];  ///< of columns 16 j + lane / 4 and 8 more, in two halves
  std::uint32_t zeros[T::kFragments];   ///< likewise, as decode() wants them

  __device__ __forceinline__ explicit StageReader16(HopperSums<T>& s) : sums{s} {}

  using Words = LaneWords<kWords>;
  __device__ __forceinline__ void load_words(std::uint32_t at, Words& words) const {
    const std::uint32_t of_lane = at + sums.lane * (T::kBits * 4) + sums.first_fragment * T::kBits;
    if constexpr (kWords == 8) {
      load_eight_words(at, sums.lane, words);
    } else if constexpr (kWords == 4) {
      words.set(0, load_shared(of_lane));
    } else if constexpr (kWords == 2) {
      const uint2 v = load_shared2(of_lane);
      words.of[0] = v.x, words.of[1] = v.y;
    } else {
      words.of[0] = load_shared_word(of_lane);
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
    } else if constexpr (T::kFragments == 2) {
      decode_scales<T::kWeight, T::kFloat>(load_shared_word(at), scales[0], scales[1]);
    } else {
      // Four columns stand together, and the lane's are one of their pairs.
      std::uint32_t pairs[2];
      decode_scales<T::kWeight, T::kFloat>(load_shared_word(at / 4 * 4), pairs[0], pairs[1]);
      scales[0] = sums.first_fragment % 2 ? pairs[1] : pairs[0];
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
        zeros[j] = decode_zeros<T::kFloat, T::kInSteps>(word, sums.first_fragment + j);
    } else {
      load_pairs(at + pairs_at * 2, zeros);
#pragma unroll
      for (std::uint32_t& pair : zeros) pair = decode_float_zeros<T::kFloat, T::kInSteps>(pair);
    }
  }

  /// All of a stage is of one group: nothing is to be asked between its steps, which can then be scheduled as
  /// one piece.
  __device__ __forceinline__ bool stage_in_group() const {
    return T::kGroupShift < 0 && T::kSteps >> sums.group_shift() <= 1;
  }
  /// Loads what is another from `step` of a stage on: where a group begins.
  template <bool kInGroup = false>
  __device__ __forceinline__ void begin_step(std::uint32_t stage, int step) {
    if (step % T::kStepsPerScale != 0 || (kInGroup && step > 0)) return;
    if (step > 0 && (step & ((1 << sums.group_shift()) - 1)) != 0) return;
    if constexpr (!T::kScaleSums)
      if (sums.grouped()) load_scales(stage, step);
    if constexpr (T::kZeroBits > 0) load_zeros(stage, step);
  }
  /// Fragment j of a step's words; scaled, where sums are not.
  __device__ __forceinline__ void decode_fragment(const Words& words, int j, std::uint32_t (&out)[4]) const {
    if constexpr (T::kZeroBits > 0)
      decode<T::kWeight, T::kFloat, T::kInSteps>(words.of, j, out, zeros[j]);
    else
      decode<T::kWeight, T::kFloat, T::kInSteps>(words.of, j, out);
    if constexpr (!T::kScaleSums) scale<T::kFloat>(out, scales[j]);
  }

  /// One scale per column comes last; what is summed until then keeps inside a float's range.
  __device__ __forceinline__ void set_unscaled() {
#pragma unroll
    for (std::uint32_t& s : scales)
      s = round_to<T::kFloat>(kUnscaled<T::kWeight, T::kFloat>, kUnscaled<T::kWeight, T::kFloat>);
  }
  /// Where sums are scaled: a group ends with `step`, or another team goes on.
  template <bool kInGroup>
  __device__ __forceinline__ bool ends_group(int step) const {
    if (step + 1 == T::kSteps) return true;
    return !kInGroup && step % 2 == 1 && ((step + 1) & ((1 << sums.group_shift()) - 1)) == 0;
  }
  __device__ __forceinline__ void load_scales_of_sums(std::uint32_t stage, int step) {
    if (sums.grouped())
      load_scales(stage, step);
    else
      set_unscaled();
  }
  /// sums += scale * part, of fragment j.
  __device__ __forceinline__ void add_scaled(int j, const float (&part)[HopperSums<T>::kValues]) {
    const float2 s = to_floats<T::kFloat>(scales[j]);
#pragma unroll
    for (int i = 0; i < HopperSums<T>::kValues; ++i)
      sums.acc[j][i] = __fmaf_rn(i / 2 % 2 ? s.y : s.x, part[i], sums.acc[j][i]);
  }

  __device__ __forceinline__ void begin_tile() {
    set_to_zero(sums.acc);
    if constexpr (!T::kScaleSums)
      if (!sums.grouped()) set_unscaled();
  }
};

}  // namespace mpk
