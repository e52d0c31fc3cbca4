#pragma once
// A stage of the ring: weights times activations of 8 bits. Products are summed in the tensor core's
// accumulators (integers, or floats of little precision), and the sums of a group times its scale in float32
// beside them.

#include <cstdint>

#include "kernels/device/cp_async.cuh"
#include "kernels/device/decode8.cuh"
#include "kernels/device/wgmma.cuh"
#include "kernels/hopper/lane_words.cuh"
#include "kernels/hopper/tile_sums.cuh"

namespace mpk {

/// A (n, k) of wgmma with bytes: byte `e` of register `r` of a lane, inside the 16 x 32 of a warp.
constexpr MPK_HOST_DEVICE RowCol wgmma_a_element8(int lane, int r, int e) {
  const LanePlace p = lane_place(lane);
  return {p.row + 8 * (r % 2), 4 * p.quad + e + 16 * (r / 2)};
}
/// Two n-blocks of 8 that decode8() gives are one such fragment: register `r` of n-block `block`.
constexpr MPK_HOST_DEVICE int wgmma_register8(int block, int r) {
  return 2 * r + block % 2;
}

namespace proof {
constexpr bool two_blocks_are_a_wgmma_fragment() {
  for (int lane = 0; lane < kWarpSize; ++lane)
    for (int block = 0; block < 2; ++block)
      for (int r = 0; r < 2; ++r)
        for (int e = 0; e < 4; ++e) {
          const RowCol kn = b_element8(lane, r, e), nk = wgmma_a_element8(lane, wgmma_register8(block, r), e);
          if (nk.row != kMmaN * block + kn.col || nk.col != kn.row) return false;
        }
  return true;
}
static_assert(two_blocks_are_a_wgmma_fragment());

/// What load_scales() takes for granted: the four n-blocks of 32 columns, in 8 values of which a lane's are
/// every other one.
constexpr bool lane_scales_are_every_other_of_eight() {
  for (int lane = 0; lane < kWarpSize; ++lane)
    for (int block = 0; block < kBlocksPerTile; ++block) {
      const int column = kMmaN * block + lane_place(lane).row, column_of_lane = lane_place(lane).row;
      if (single_scale_position(column) != block / kBlocksPerTileA8 * kTileA8 + column_of_lane / 2 * 8 +
                                               block % kBlocksPerTileA8 * 2 + column_of_lane % 2)
        return false;
    }
  return true;
}
static_assert(lane_scales_are_every_other_of_eight());
}  // namespace proof

template <class T>
struct WgmmaMultiplier8 {
  static constexpr bool kIntegers = T::kActivations8 == Activation8::int8;
  using Sum = typename WgmmaSum<T::kActivations8>::Type;
  static_assert(T::kFragments % 2 == 0, "a 32 x 32 tile is two fragments");
  static constexpr int kTiles = T::kFragments / 2;  ///< of 32 x 32, a warp's of a step
  static constexpr int kTileBytes = T::kTileBytes / 2, kTilesPerBox = T::kBoxRowBytes / T::kTileBytes;
  static constexpr int kLoads = T::kSteps * kTiles;
  using Words = LaneWords<T::kBits>;

  HopperSums<T>& sums;
  const std::uint32_t words_at = T::kWeightsAt + sums.tile_of_warp / kTilesPerBox * T::kBoxBytes +
                                 sums.tile_of_warp % kTilesPerBox * T::kTileBytes +
                                 sums.first_fragment / 2 * kTileBytes;
  const std::uint32_t scales_at =
      T::kScalesAt +
      (sums.tile_of_warp * kTileN + sums.first_fragment / 2 * kTileA8 + sums.lane / 8 * 8) * T::kScaleSize;
  const std::uint32_t zeros_at = T::kZerosAt + sums.tile_of_warp * (kTileN / 2) + sums.lane / 4 * 4;
  /// Unscaled sums: of the group at hand, of a chain of FP8 products, or of all integers without groups.
  Sum part[T::kFragments][HopperSums<T>::kValues];
  bool part_empty;

  __device__ __forceinline__ explicit WgmmaMultiplier8(HopperSums<T>& s) : sums{s} {}

  __device__ __forceinline__ void begin_tile() {
    set_to_zero(sums.acc);
    part_empty = true;
  }

  /// A lane's words of a 32 x 32 tile, tile after tile and step after step.
  __device__ __forceinline__ void load_words(std::uint32_t stage, int load, Words& words) const {
    const std::uint32_t at = stage + words_at + load / kTiles * T::kBoxRowBytes + load % kTiles * kTileBytes;
    if constexpr (T::kBits == 4)
      words.set(0, load_shared(at + sums.lane * 16));
    else
      load_eight_words(at, sums.lane, words);
  }

  __device__ __forceinline__ void begin_stage(int) const {}
  /// Stage of the ring -> sums. `pending`: the stage read before, whose products may still be under way.
  /// `ahead()` begins the next.
  template <class Ahead>
  __device__ __forceinline__ void multiply(int slot, int& pending, Ahead ahead) {
    const std::uint32_t stage = sums.memory.stage(slot);
    const std::uint64_t tile = wgmma_tile(stage + T::kActivationsAt);
    const int group_bits = (1 << sums.group_shift()) - 1;  // all set in the last step of a group
    std::uint32_t a[T::kBuffers][T::kFragments][4];
    std::uint32_t zeros = 0;
    Words words[T::kWordBuffers];
    if constexpr (T::kWordBuffers == 2) load_words(stage, 0, words[0]);
#pragma unroll
    for (int step = 0; step < T::kSteps; ++step) {
      if constexpr (T::kZeroBits > 0)
        if (step == 0 || (step & group_bits) == 0) zeros = load_zeros(stage, step);
      auto& fragments = a[step % T::kBuffers];
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        const int load = step * kTiles + i;
        if (T::kWordBuffers == 1)
          load_words(stage, load, words[0]);
        else if (load + 1 < kLoads)
          load_words(stage, load + 1, words[(load + 1) % 2]);
#pragma unroll
        for (int block = 0; block < kBlocksPerTileA8; ++block) {
          std::uint32_t decoded[2];
          const int block_of_zeros = sums.first_fragment * 2 + i * kBlocksPerTileA8 + block;
          decode8<T::kWeight, T::kActivations8>(words[load % T::kWordBuffers].of, block, decoded,
                                                T::kZeroBits > 0 ? decode_zero8(zeros, block_of_zeros) : 0);
#pragma unroll
          for (int r = 0; r < 2; ++r) fragments[2 * i + block / 2][wgmma_register8(block, r)] = decoded[r];
        }
      }
#pragma unroll
      for (auto& fragment : fragments)
#pragma unroll
        for (std::uint32_t& value : fragment) wgmma_pin(value);
      wgmma_fence();
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j)
        wgmma<T::kActivations8, T::kTileM>(part[j], fragments[j], tile + T::step_offset(step), !part_empty);
      wgmma_commit();
      part_empty = false;
      constexpr int kChainSteps = kChain8 / kMmaK8;
      if (sums.grouped() && (step & group_bits) == group_bits) {
        wgmma_wait<0>();
        fold<true>(stage, step);
      } else if (!kIntegers && step % kChainSteps == kChainSteps - 1) {  // where groups have ended, too
        wgmma_wait<0>();
        fold<false>(stage, step);
      } else {
        wgmma_wait<T::kBuffers - 1>();
      }
      if (step == 0) sums.memory.release(pending, sums.lane);
    }
    pending = slot;
    if (part_empty)  // nothing of it is under way
      sums.memory.release(pending, sums.lane,
                          __float_as_uint(sums.acc[T::kFragments - 1][HopperSums<T>::kValues - 1]));
    ahead();
  }

  /// Integers without groups stay integers until here.
  __device__ __forceinline__ void end_tile() {
    wgmma_wait<0>();
    if (!part_empty) fold<false>(0, 0);
  }

 private:
  /// Of the group that `step` belongs to, in a matrix with `row_bytes` a group. Without groups the first.
  __device__ __forceinline__ std::uint32_t group_offset(int step, int row_bytes) const {
    return (step >> sums.group_shift()) * row_bytes;
  }
  __device__ __forceinline__ std::uint32_t load_zeros(std::uint32_t stage, int step) const {
    return load_shared_word(stage + zeros_at + group_offset(step, T::kZeroRowBytes));
  }

  /// acc += scale * part, for the products that end with `step`.
  template <bool kScaled>
  __device__ __forceinline__ void fold(std::uint32_t stage, int step) {
#pragma unroll
    for (auto& fragment : part)
#pragma unroll
      for (Sum& value : fragment) wgmma_pin(value);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      float scales[kBlocksPerTileA8];
      if constexpr (kScaled)
        load_scales(stage + scales_at + group_offset(step, T::kScaleRowBytes) + i * (kTileA8 * T::kScaleSize),
                    scales);
#pragma unroll
      for (int j = 2 * i; j < 2 * i + 2; ++j)
#pragma unroll
        for (int value = 0; value < HopperSums<T>::kValues; ++value) {
          const auto sum = static_cast<float>(part[j][value]);
          float& to = sums.acc[j][value];
          if constexpr (kScaled)
            to = __fmaf_rn(sum, scales[j % 2 * 2 + value / 2 % 2], to);
          else
            to += sum;
        }
    }
    part_empty = true;
  }
  /// Of columns lane / 4 of the four n-blocks of a 32 x 32 tile. `from`: those of columns lane / 8 * 2 and
  /// one more, in turns.
  __device__ __forceinline__ void load_scales(std::uint32_t from, float (&scales)[kBlocksPerTileA8]) const {
    const bool odd = sums.lane / 4 % 2;
    if constexpr (T::kScaleSize == 1) {
      const uint2 bytes = load_shared2(from);
#pragma unroll
      for (int block = 0; block < kBlocksPerTileA8; ++block) {
        const std::uint32_t pair = (block < 2 ? bytes.x : bytes.y) >> 16 * (block % 2);
        scales[block] = __uint_as_float(decode_e8m0((odd ? pair >> 8 : pair) & 0xffu));
      }
    } else {
      const uint4 pairs = load_shared(from);
      const std::uint32_t words[] = {pairs.x, pairs.y, pairs.z, pairs.w};
#pragma unroll
      for (int block = 0; block < kBlocksPerTileA8; ++block) {
        const float2 pair = to_floats<T::kFloat>(words[block]);
        scales[block] = odd ? pair.y : pair.x;
      }
    }
  }
};

}  // namespace mpk
