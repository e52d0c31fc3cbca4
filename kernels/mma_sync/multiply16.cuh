#pragma once
// One stage of the ring times another, with activations of 16 bits: weights are decoded to that type and, in
// groups, scaled in it.

#include <cstdint>

#include "kernels/device/cp_async.cuh"
#include "kernels/device/decode.cuh"
#include "kernels/device/mma.cuh"
#include "kernels/mma_sync/tile_sums.cuh"

namespace mpk {

template <class T>
struct Multiplier16 {
  TileSums<T>& sums;

  __device__ __forceinline__ void begin_tile() { sums.clear(); }
  __device__ __forceinline__ void end_tile() {}

  __device__ __forceinline__ void multiply_stage(std::uint32_t stage, int first_step) {
    const GemmArgs& args = sums.args;
    const int lane = sums.lane, warp_n = sums.warp_n, warp_k = sums.warp_k;
    const RowCol a_row = a_row_of_lane(lane);
    const int first_row = sums.warp_m * T::kBlocksM * kMmaM + a_row.row;
    const std::uint32_t weights =
        stage + (T::kWeightsAt + warp_k * T::kWeightRow + warp_n * T::kTileChunks) * kChunkBytes;
    const std::uint32_t scales_at = stage + T::kScalesAt * kChunkBytes +
                                    (warp_n * kTileN + grouped_scale_position(lane, 0)) * T::kScaleSize;
    const std::uint32_t zeros_at =
        stage + T::kZerosAt * kChunkBytes + warp_n * (kTileN * T::kZeroBits / 8) +
        lane_place(lane).row * T::kZeroBits;  // eight columns' in T::kZeroBits bytes
    constexpr float kOne = kUnscaled<T::kWeight, T::kFloat>;
    std::uint32_t scales[4];  // of columns 16 j + lane / 4 and 8 more
    std::uint32_t zeros[4];   // likewise, as decode() wants them
#pragma unroll
    for (std::uint32_t& pair : scales) pair = round_to<T::kFloat>(kOne, kOne);
#pragma unroll
    for (int i = 0; i < T::kStepsPerWarp; ++i) {
      const int step = i * T::kWarpsK + warp_k;
      std::uint32_t words[T::kBits];
#pragma unroll
      for (int c = 0; c < T::kBits / 4; ++c)
        set(words + 4 * c, load_shared(weights + (i * T::kWarpsK * T::kWeightRow +
                                                  weight_chunk<T::kBits>(lane * (T::kBits / 4) + c)) *
                                                     kChunkBytes));
      const int group = ((first_step + step) >> args.group_shift) - (first_step >> args.group_shift);
      if (args.grouped) load_scales(scales_at + group * (T::kScaleRow * kChunkBytes), scales);
      if constexpr (T::kZeroBits > 0) load_zeros(zeros_at + group * (T::kZeroRow * kChunkBytes), zeros);
      FragmentA a[T::kBlocksM];
#pragma unroll
      for (int block = 0; block < T::kBlocksM; ++block)
        a[block] = ldmatrix_x4(
            stage + activation_chunk<T::kActivationRow>(first_row + block * kMmaM, 2 * step + a_row.col) *
                        kChunkBytes);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        std::uint32_t weight[4];
        if constexpr (T::kZeroBits > 0)
          decode<T::kWeight, T::kFloat>(words, j, weight, zeros[j]);
        else
          decode<T::kWeight, T::kFloat>(words, j, weight);
        scale<T::kFloat>(weight, scales[j]);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const FragmentB b{{weight[half], weight[2 + half]}};
#pragma unroll
          for (int block = 0; block < T::kBlocksM; ++block)
            mma<T::kFloat>(sums.acc[block][2 * j + half], a[block], b);
        }
      }
    }
  }
  static __device__ __forceinline__ void set(std::uint32_t* words, uint4 v) {
    words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
  }
  static __device__ __forceinline__ void load_scales(std::uint32_t from, std::uint32_t (&scales)[4]) {
    if constexpr (T::kScaleSize == 1) {
      const uint2 bytes = load_shared2(from);
      decode_scales<T::kWeight, T::kFloat>(bytes.x, scales[0], scales[1]);
      decode_scales<T::kWeight, T::kFloat>(bytes.y, scales[2], scales[3]);
    } else {
      set(scales, load_shared(from));
    }
  }
  static __device__ __forceinline__ void load_zeros(std::uint32_t from, std::uint32_t (&zeros)[4]) {
    if constexpr (T::kZeroBits == 4) {
      const std::uint32_t word = load_shared_word(from);
#pragma unroll
      for (int j = 0; j < 4; ++j) zeros[j] = decode_zeros<T::kFloat>(word, j);
    } else {
      set(zeros, load_shared(from));
    }
  }
};

}  // namespace mpk
