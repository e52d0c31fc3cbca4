#pragma once
// What distinguishes one shipped GEMM kernel from the next. Numbers only: compiles as plain C++.

#include "kernels/device/fragment.cuh"
#include "kernels/device/swizzle.cuh"
#include "kernels/weight.hpp"

namespace mpk {

struct Tile {
  int m, n, k;
};

/// Eight warps share a block tile. Each multiplies its rows by whole 64-column weight tiles, so 64 columns go
/// to a warp; what is left of the eight splits every k-stage by 16-row steps, taken in turns, and adds up at
/// the end of a tile. Scales of groups are applied to the weights, one scale per column to the finished sums.
template <Weight kWeight_, Float kFloat_, int kTileM, int kTileN_, int kTileK_, int kWarpsM_, int kStages_,
          int kBlocksPerSm_>
struct GemmTraits {
  static constexpr Weight kWeight = kWeight_;
  static constexpr Float kFloat = kFloat_;
  static constexpr int kBits = bits_of(kWeight);
  static constexpr Tile kTile{kTileM, kTileN_, kTileK_};
  static constexpr int kStages = kStages_, kBlocksPerSm = kBlocksPerSm_;

  static constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kTile.n / kTileN, kWarpsK = kWarps / (kWarpsM * kWarpsN);
  static_assert(kWarpsM * kWarpsN * kWarpsK == kWarps && kTile.n % kTileN == 0);

  static constexpr int kSteps = kTile.k / kMmaK;  ///< 16-row steps of a stage
  static constexpr int kStepsPerWarp = kSteps / kWarpsK;
  static constexpr int kBlocksM = kTile.m / (kMmaM * kWarpsM);  ///< mma rows of a warp
  static_assert(kStepsPerWarp * kWarpsK == kSteps && kBlocksM * kMmaM * kWarpsM == kTile.m);

  static constexpr bool kZeros = kWeight == Weight::u4;
  static constexpr int kScaleSize = scale_bytes(kWeight);
  static constexpr int kMinGroupSize = kWeight == Weight::nvfp4 ? 16 : 32;
  static constexpr int kGroups = kTile.k / kMinGroupSize;  ///< of a stage, at most

  // One stage of the ring, in chunks of 16 bytes: activations, weights, scales, zero points.
  static constexpr int kActivationRow = kTile.k / 8;                    ///< chunks of one row
  static constexpr int kTileChunks = kWarpSize * kBits / 4;             ///< of one 16 x 64 weight tile
  static constexpr int kWeightRow = kWarpsN * kTileChunks;              ///< of one 16-row step
  static constexpr int kScaleRow = kTile.n * kScaleSize / kChunkBytes;  ///< of one group
  static constexpr int kZeroRow = kTile.n / 2 / kChunkBytes;            ///< four bits a column
  static constexpr int kActivationChunks = kTile.m * kActivationRow;
  static constexpr int kWeightChunks = kSteps * kWeightRow;
  static constexpr int kScaleChunks = kGroups * kScaleRow;
  static constexpr int kZeroChunks = kZeros ? kGroups * kZeroRow : 0;
  static constexpr int kWeightsAt = kActivationChunks, kScalesAt = kWeightsAt + kWeightChunks;
  static constexpr int kZerosAt = kScalesAt + kScaleChunks, kStageChunks = kZerosAt + kZeroChunks;
  static_assert(kActivationChunks % kThreads == 0 && kWeightChunks % kThreads == 0 &&
                kScaleChunks + kZeroChunks <= kThreads);
  static_assert(kStageChunks % 8 == 0, "every stage starts on a line of 128 bytes");

  // Behind the ring: one 16-row slice of the tile's float sums, to add up the warps that split k.
  static constexpr int kSumThreads =
      kWarpsM * kWarpsN * kWarpSize;  ///< those that hold a tile's sums in the end
  static constexpr int kSumChunks = kWarpsK > 1 ? kBlocksPerTile* kSumThreads : 0;
  static constexpr int kSmemBytes = (kStages * kStageChunks + kSumChunks) * kChunkBytes;
  static_assert(kSmemBytes <= 99 * 1024, "the smallest limit among the GPUs from compute capability 8.0 on");

  /// One block's float sums of one tile in the workspace, in the order in which the threads hold them.
  static constexpr int kSlotChunks = kBlocksM * kBlocksPerTile * kSumThreads;
  static_assert(kSlotChunks * kChunkBytes == kTile.m * kTile.n * 4);
};

}  // namespace mpk
