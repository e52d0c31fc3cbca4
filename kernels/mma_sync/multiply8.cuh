#pragma once
// One stage of the ring times another, with activations of 8 bits. Products are summed in the tensor core's
// accumulators (integers, or floats of little precision), and the sums of a group times its scale in float32
// beside them.

#include <cstdint>
#include <type_traits>

#include "kernels/device/cp_async.cuh"
#include "kernels/device/decode8.cuh"
#include "kernels/device/mma.cuh"
#include "kernels/mma_sync/tile_sums.cuh"

namespace mpk {

template <class T>
struct Multiplier8 {
  static constexpr bool kIntegers = T::kActivations8 == Activation8::int8;
  using Sum = std::conditional_t<kIntegers, int, float>;
  static constexpr int kHalves = kTileN / kTileA8;  // a warp's 64 columns are two weight tiles
  static constexpr int kHalfChunks = T::kTileChunks / kHalves;
  static constexpr int kLaneWords = T::kBits;  // of one weight tile

  TileSums<T>& sums;
  Sum part[T::kBlocksM][kBlocksPerTile][4];

  __device__ __forceinline__ explicit Multiplier8(TileSums<T>& s) : sums{s} {}

  __device__ __forceinline__ void begin_tile() {
    sums.clear();
    set_to_zero(part);
  }
  /// Integers of one scale per column stay integers until here.
  __device__ __forceinline__ void end_tile() {
    if constexpr (kIntegers)
      if (!sums.args.grouped) leave(0);
  }

  __device__ __forceinline__ void multiply_stage(std::uint32_t stage, int first_step) {
    const GemmArgs& args = sums.args;
    const int lane = sums.lane;
    const RowCol a_row = a_row_of_lane(lane);
    const int first_row = sums.warp_m * T::kBlocksM * kMmaM + a_row.row;
    const int own_step = sums.warp_k * T::kStepsPerWarp;  // neighbours, which are likely to share a group
    const std::uint32_t weights =
        stage + (T::kWeightsAt + own_step * T::kWeightRow + sums.warp_n * T::kTileChunks) * kChunkBytes;
    const std::uint32_t scales_at =
        stage + T::kScalesAt * kChunkBytes +
        (sums.warp_n * kTileN + single_scale_position(lane, 0, 0)) * T::kScaleSize;
    const std::uint32_t zeros_at =
        stage + T::kZerosAt * kChunkBytes + sums.warp_n * (kTileN / 2) + lane_place(lane).row * 4;
    const auto group_of = [&](int step) {
      return ((first_step + step) >> args.group_shift) - (first_step >> args.group_shift);
    };
#pragma unroll
    for (int i = 0; i < T::kStepsPerWarp; ++i) {
      const int step = own_step + i, group = group_of(step);
      FragmentA a[T::kBlocksM];
#pragma unroll
      for (int block = 0; block < T::kBlocksM; ++block)
        a[block] = ldmatrix_x4(
            stage + activation_chunk<T::kActivationRow>(first_row + block * kMmaM, 2 * step + a_row.col) *
                        kChunkBytes);
      std::uint32_t zeros = 0;
      if constexpr (T::kZeroBits > 0)
        zeros = load_shared_word(zeros_at + group * (T::kZeroRow * kChunkBytes));
#pragma unroll
      for (int half = 0; half < kHalves; ++half) {
        std::uint32_t words[kLaneWords];
#pragma unroll
        for (int c = 0; c < kLaneWords / 4; ++c) {
          const uint4 four = load_shared(weights + (i * T::kWeightRow + half * kHalfChunks +
                                                    weight_chunk<T::kBits>(lane * (kLaneWords / 4) + c)) *
                                                       kChunkBytes);
          words[4 * c] = four.x, words[4 * c + 1] = four.y;
          words[4 * c + 2] = four.z, words[4 * c + 3] = four.w;
        }
#pragma unroll
        for (int j = 0; j < kBlocksPerTileA8; ++j) {
          const int n_block = half * kBlocksPerTileA8 + j;
          FragmentB b;
          decode8<T::kWeight, T::kActivations8>(words, j, b.reg,
                                                T::kZeroBits > 0 ? decode_zero8(zeros, n_block) : 0);
#pragma unroll
          for (int block = 0; block < T::kBlocksM; ++block) mma8(part[block][n_block], a[block], b);
        }
      }
      const bool last_of_group = i + 1 == T::kStepsPerWarp || group_of(step + 1) != group;
      if (kIntegers ? args.grouped && last_of_group : last_of_group)
        leave(scales_at + group * (T::kScaleRow * kChunkBytes));
    }
  }

  /// sums += scale * part; part = 0. `scales_at`: shared memory; not read where there are no groups.
  __device__ __forceinline__ void leave(std::uint32_t scales_at) {
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      float scales[kBlocksPerTileA8][2];  // of the lane's columns, two of each n-block
      if (sums.args.grouped)
        load_scales(scales_at + half * (kTileA8 * T::kScaleSize), scales);
      else
#pragma unroll
        for (auto& pair : scales) pair[0] = pair[1] = 1.0f;
#pragma unroll
      for (int j = 0; j < kBlocksPerTileA8; ++j)
#pragma unroll
        for (int block = 0; block < T::kBlocksM; ++block)
#pragma unroll
          for (int value = 0; value < 4; ++value) {
            Sum& from = part[block][half * kBlocksPerTileA8 + j][value];
            float& to = sums.acc[block][half * kBlocksPerTileA8 + j][value];
            to = __fmaf_rn(static_cast<float>(from), scales[j][value % 2], to);
            from = 0;
          }
    }
  }
  static __device__ __forceinline__ void load_scales(std::uint32_t from,
                                                     float (&scales)[kBlocksPerTileA8][2]) {
    if constexpr (T::kScaleSize == 1) {
      const uint2 bytes = load_shared2(from);
#pragma unroll
      for (int i = 0; i < 8; ++i)
        scales[i / 2][i % 2] =
            __uint_as_float(decode_e8m0((i < 4 ? bytes.x : bytes.y) >> 8 * (i % 4) & 0xffu));
    } else {
      const uint4 pairs = load_shared(from);
      const std::uint32_t words[] = {pairs.x, pairs.y, pairs.z, pairs.w};
#pragma unroll
      for (int j = 0; j < kBlocksPerTileA8; ++j) {
        const float2 pair = to_floats<T::kFloat>(words[j]);
        scales[j][0] = pair.x, scales[j][1] = pair.y;
      }
    }
  }
};

}  // namespace mpk
