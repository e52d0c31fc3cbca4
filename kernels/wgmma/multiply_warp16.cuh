#pragma once
// One stage of the ring times another, with activations of 16 bits and few rows: every warp for itself, by
// mma.sync, so that none waits for three others. Weights are A, as for wgmma; a tensor core is not the limit
// here.

#include <cstdint>

#include "kernels/device/mma.cuh"
#include "kernels/wgmma/stage_reader16.cuh"

namespace mpk {

template <class T>
struct WarpMultiplier16 : StageReader16<T> {
  using Reader = StageReader16<T>;
  using Reader::sums, Reader::scales, Reader::zeros, Reader::words_at;
  using typename Reader::Words;
  static constexpr int kRowBlocks = T::kTileM / kMmaN;  ///< of 8 rows of activations, B of one mma each
  /// With scales on sums: those of the group at hand, unscaled; sums.acc then holds what is finished.
  float part[T::kScaleSums ? T::kFragments : 1][T::kScaleSums ? kRowBlocks : 1][4];

  // ldmatrix: four 8 x 8 matrices at a time; of 8 rows those of two steps, otherwise those of 16 rows.
  static constexpr MPK_HOST_DEVICE int row_at_of(int lane) {
    const int matrix = lane / 8, row = kRowBlocks == 1 ? lane % 8 : matrix / 2 * 8 + lane % 8;
    const int chunk = kRowBlocks == 1 ? matrix : matrix % 2;
    return row * 128 + (chunk ^ lane % 8) * 16;
  }
  const int row_at = row_at_of(sums.lane);

  __device__ __forceinline__ explicit WarpMultiplier16(WgmmaSums<T>& s) : Reader{s} {}

  __device__ __forceinline__ void clear_part() {
#pragma unroll
    for (auto& fragment : part)
#pragma unroll
      for (auto& block : fragment)
#pragma unroll
        for (float& value : block) value = 0.0f;
  }
  /// acc += scale * part, for the group that ends with `step`.
  __device__ __forceinline__ void fold(std::uint32_t stage, int step) {
    if (sums.grouped()) this->load_scales(stage, step);
#pragma unroll
    for (int j = 0; j < T::kFragments; ++j) {
      const float2 s = to_floats<T::kFloat>(scales[j]);
#pragma unroll
      for (int b = 0; b < kRowBlocks; ++b)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          sums.acc[j][4 * b + i] = __fmaf_rn(i / 2 ? s.y : s.x, part[j][b][i], sums.acc[j][4 * b + i]);
    }
    clear_part();
  }
  /// B of two steps, the first of them even.
  __device__ __forceinline__ void load_rows(std::uint32_t stage, int step, FragmentA (&rows)[kRowBlocks]) const {
    const std::uint32_t panel = stage + T::kActivationsAt + step / 4 * T::kPanelBytes,
                        chunks = row_at ^ step % 4 * 32;
    if constexpr (kRowBlocks == 1) {
      rows[0] = ldmatrix_x4(panel + chunks);
    } else {
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i)
        rows[i] = ldmatrix_x4(panel + i / 2 * 16 * 128 + (chunks ^ i % 2 * 32));
    }
  }
  /// B of step `odd` of the two, rows 8 b ...
  static __device__ __forceinline__ FragmentB rows_of(const FragmentA (&rows)[kRowBlocks], int odd, int b) {
    const std::uint32_t* pair = kRowBlocks == 1 ? rows[0].reg + 2 * odd : rows[b / 2 * 2 + odd].reg + b % 2 * 2;
    return {{pair[0], pair[1]}};
  }
  __device__ __forceinline__ void multiply_step(const Words& words, const FragmentA (&rows)[kRowBlocks], int odd) {
#pragma unroll
    for (int j = 0; j < T::kFragments; ++j) {
      FragmentA weights;
      if constexpr (T::kZeroBits > 0)
        decode<T::kWeight, T::kFloat>(words.of, j, weights.reg, zeros[j]);
      else
        decode<T::kWeight, T::kFloat>(words.of, j, weights.reg);
      if constexpr (!T::kScaleSums) scale<T::kFloat>(weights.reg, scales[j]);
#pragma unroll
      for (int b = 0; b < kRowBlocks; ++b)
        if constexpr (T::kScaleSums)
          mma<T::kFloat>(part[j][b], weights, rows_of(rows, odd, b));
        else
          mma<T::kFloat>(sum_of(j, b), weights, rows_of(rows, odd, b));
    }
  }

  /// Stage of the ring -> sums.
  __device__ __forceinline__ void multiply(int slot, int, int, int& pending) {
    const std::uint32_t stage = sums.memory.stage(slot), words_here = stage + words_at;
    if constexpr (T::kScaleSums) clear_part();
    const int group_mask = (1 << sums.group_shift()) - 1;
    Words even, odd;
    this->load_words(words_here, even);
#pragma unroll
    for (int step = 0; step < T::kSteps; step += 2) {
      this->load_words(words_here + (step + 1) * T::kBoxRowBytes, odd);
      FragmentA rows[kRowBlocks];
      load_rows(stage, step, rows);
      if (step == 0 || T::kStepsPerScale == 1 || (step & group_mask) == 0) {
        if constexpr (!T::kScaleSums)
          if (sums.grouped()) this->load_scales(stage, step);
        if constexpr (T::kZeroBits > 0) this->load_zeros(stage, step);
      }
      multiply_step(even, rows, 0);
      if (step + 2 < T::kSteps) this->load_words(words_here + (step + 2) * T::kBoxRowBytes, even);
      if constexpr (!T::kScaleSums && T::kStepsPerScale == 1) this->load_scales(stage, step + 1);
      multiply_step(odd, rows, 1);
      if constexpr (T::kScaleSums)  // a group ends, or another team goes on
        if (step + 2 == T::kSteps || ((step + 2) & group_mask) == 0) fold(stage, step + 1);
    }
    pending = slot;
    __syncwarp();
    sums.memory.release(pending, sums.lane);
  }
  __device__ __forceinline__ float (&sum_of(int j, int b))[4] {
    return reinterpret_cast<float(&)[4]>(sums.acc[j][4 * b]);
  }
  __device__ __forceinline__ void end_tile(int) const {}
};

}  // namespace mpk
