#pragma once
// What a GEMM kernel is told, and how a block gets at it: global memory to a ring of k-stages in shared
// memory, which keeps filling across tile borders.

#include <cstddef>
#include <cstdint>

#include "kernels/device/cp_async.cuh"
#include "kernels/device/swizzle.cuh"
#include "kernels/mma_sync/traits.cuh"
#include "kernels/partition.hpp"

namespace mpk {

struct GemmArgs {
  const std::byte* activations;  // (m, k), 16 or 8 bits each
  const float* row_scales;       // (m); activations of 8 bits only
  const uint4* words;
  const std::byte* scales;    // (groups, n), permuted
  const std::byte* zeros;     // (groups, n) of T::kZeroBits
  const std::uint16_t* bias;  // (n), permuted like one scale per column, or null
  float global_scale;
  std::uint16_t* out;  // (m, n)
  int* counters;       // one per tile: how many of its blocks have left their partial sums
  float4* partials;    // partition.slots() times kSlotChunks
  int m, n, k;
  int weight_tiles, k_steps;  // n / 64, and k by 16, or 32 where activations have 8 bits
  int groups, group_shift;    // k-step s belongs to group s >> group_shift
  bool grouped;
  Partition partition;
};

/// A unit of work by its coordinates.
struct Cursor {
  int tile_m, tile_n, stage;
  __device__ Cursor(const Partition& p, int unit)
      : tile_m{unit / p.stages_per_tile % p.tiles_m},
        tile_n{unit / p.stages_per_tile / p.tiles_m},
        stage{unit % p.stages_per_tile} {}
  __device__ __forceinline__ int tile(const Partition& p) const { return tile_n * p.tiles_m + tile_m; }
  __device__ __forceinline__ void next_tile(const Partition& p) {
    stage = 0;
    if (++tile_m < p.tiles_m) return;
    tile_m = 0;
    ++tile_n;
  }
};

/// Global memory -> ring, stage after stage of a block's stripe. What lies outside the matrices arrives as
/// zeros: a zero activation times the finite weight that zeros decode to adds nothing, so that nobody has to
/// ask about edges again.
template <class T>
struct StageLoader {
  static constexpr int kRowsPerRound = T::kThreads / T::kActivationRow;
  static constexpr int kStepsPerRound = T::kThreads / T::kWeightRow;
  static_assert(kRowsPerRound * T::kActivationRow == T::kThreads && kRowsPerRound % 8 == 0);
  static_assert(kStepsPerRound * T::kWeightRow == T::kThreads);

  const GemmArgs& args;
  const std::uint32_t ring;
  const unsigned thread = threadIdx.x;  // unsigned: what is derived from it by / and % costs one instruction
  Cursor at;
  int left;
  const std::byte* activations;  // what this thread copies first of the next stage
  const uint4* words;
  bool columns_inside;

  __device__ __forceinline__ StageLoader(const GemmArgs& a, std::uint32_t ring_address, int begin, int end)
      : args{a}, ring{ring_address}, at{a.partition, begin}, left{end - begin} {
    aim();
  }
  __device__ __forceinline__ int row() const { return at.tile_m * T::kTile.m + thread / T::kActivationRow; }
  __device__ __forceinline__ int column() const {
    return at.stage * T::kTile.k + thread % T::kActivationRow * (kChunkBytes / T::kActivationBytes);
  }
  __device__ __forceinline__ int step() const { return at.stage * T::kSteps + thread / T::kWeightRow; }
  __device__ __forceinline__ int row_chunks() const { return args.weight_tiles * T::kTileChunks; }

  __device__ __forceinline__ void aim() {
    const int chunk = at.tile_n * T::kWeightRow + thread % T::kWeightRow;
    columns_inside = chunk < row_chunks();
    activations =
        args.activations + (static_cast<std::int64_t>(row()) * args.k + column()) * T::kActivationBytes;
    words = args.words + static_cast<std::int64_t>(step()) * row_chunks() + chunk;
  }

  /// Starts copying the next stage, if there is one. One group per call in any case: they count stages.
  __device__ __forceinline__ void next(int slot) {
    if (left > 0) {
      copy(ring + slot * (T::kStageChunks * kChunkBytes));
      --left;
      activations += T::kTile.k * T::kActivationBytes;
      words += static_cast<std::int64_t>(T::kSteps) * row_chunks();
      if (++at.stage == args.partition.stages_per_tile) {
        at.next_tile(args.partition);
        aim();
      }
    }
    cp_async_commit();
  }

  __device__ __forceinline__ void copy(std::uint32_t stage) const {
    const std::uint32_t to_activations =
        stage + activation_chunk<T::kActivationRow>(thread / T::kActivationRow, thread % T::kActivationRow) *
                    kChunkBytes;
#pragma unroll
    for (int round = 0; round < T::kActivationChunks / T::kThreads; ++round) {
      const bool inside = column() < args.k && row() + round * kRowsPerRound < args.m;
      const std::byte* from =
          activations + static_cast<std::int64_t>(round * kRowsPerRound) * args.k * T::kActivationBytes;
      cp_async(to_activations + round * T::kThreads * kChunkBytes, inside ? from : args.activations, inside);
    }
    const std::uint32_t to_words = stage + (T::kWeightsAt + weight_chunk<T::kBits>(thread)) * kChunkBytes;
#pragma unroll
    for (int round = 0; round < T::kWeightChunks / T::kThreads; ++round) {
      const bool inside = columns_inside && step() + round * kStepsPerRound < args.k_steps;
      const uint4* from = words + static_cast<std::int64_t>(round * kStepsPerRound) * row_chunks();
      cp_async(to_words + round * T::kThreads * kChunkBytes, inside ? from : args.words, inside);
    }
    if (args.grouped)
      copy_groups<T::kScaleRow, T::kScaleChunks>(stage + T::kScalesAt * kChunkBytes, args.scales,
                                                 args.n * T::kScaleSize, thread);
    if constexpr (T::kZeroBits > 0)
      copy_groups<T::kZeroRow, T::kZeroChunks>(stage + T::kZerosAt * kChunkBytes, args.zeros,
                                               args.n * T::kZeroBits / 8, thread - T::kScaleChunks);
  }

  /// The tile's columns of the groups that the stage touches, of a matrix with a row of `row_bytes` a group.
  /// `copier`, below kChunks, copies one of kRowChunks chunks a row.
  template <int kRowChunks, int kChunks>
  __device__ __forceinline__ void copy_groups(std::uint32_t to, const std::byte* matrix, int row_bytes,
                                              unsigned copier) const {
    const int first_step = at.stage * T::kSteps, last_step = first_step + T::kSteps - 1;
    const int group = (first_step >> args.group_shift) + copier / kRowChunks;
    if (copier >= kChunks || group > last_step >> args.group_shift) return;
    const int column = (at.tile_n * kRowChunks + copier % kRowChunks) * kChunkBytes;
    const bool inside = column < row_bytes && group < args.groups;
    const std::byte* from = matrix + static_cast<std::int64_t>(group) * row_bytes + column;
    cp_async(to + copier * kChunkBytes, inside ? from : matrix, inside);
  }
};

}  // namespace mpk
