#pragma once
// What distinguishes one shipped GEMM kernel from the next. Numbers only: compiles as plain C++.

#include "kernels/device/fragment.cuh"
#include "kernels/device/swizzle.cuh"

namespace mpk {

struct Tile {
  int m, n, k;
};

/// How the scales of the weights are stored and where they are applied (FORMAT.md, "Scales").
enum class Scales {
  single,  ///< one per column, applied to the finished sums
  grouped  ///< one per column and group of 32, 64 or 128 rows, applied to the weights
};
inline constexpr int kMinGroupSize = 32;

/// Eight warps share a block tile. Each multiplies its rows by whole 64-column weight tiles, so 64 columns go
/// to a warp; what is left of the eight splits every k-stage by 16-row steps, taken in turns, and adds up at
/// the end of a tile.
template <int kBits_, Scales kScales_, int kTileM, int kTileN_, int kTileK_, int kWarpsM_, int kStages_,
          int kBlocksPerSm_>
struct GemmTraits {
  static constexpr int kBits = kBits_;
  static constexpr bool kGrouped = kScales_ == Scales::grouped;
  static constexpr Tile kTile{kTileM, kTileN_, kTileK_};
  static constexpr int kStages = kStages_, kBlocksPerSm = kBlocksPerSm_;

  static constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kTile.n / kTileN, kWarpsK = kWarps / (kWarpsM * kWarpsN);
  static_assert(kWarpsM * kWarpsN * kWarpsK == kWarps && kTile.n % kTileN == 0);

  static constexpr int kSteps = kTile.k / kMmaK;  ///< 16-row steps of a stage
  static constexpr int kStepsPerWarp = kSteps / kWarpsK;
  static constexpr int kBlocksM = kTile.m / (kMmaM * kWarpsM);  ///< mma rows of a warp
  static_assert(kStepsPerWarp * kWarpsK == kSteps && kBlocksM * kMmaM * kWarpsM == kTile.m);

  // One stage of the ring, in chunks of 16 bytes: activations, weights, scales.
  static constexpr int kActivationRow = kTile.k / 8;         ///< chunks of one row
  static constexpr int kTileChunks = kWarpSize * kBits / 4;  ///< of one 16 x 64 weight tile
  static constexpr int kWeightRow = kWarpsN * kTileChunks;   ///< of one 16-row step
  static constexpr int kScaleRow = kTile.n / 8;              ///< of one group
  static constexpr int kActivationChunks = kTile.m * kActivationRow;
  static constexpr int kWeightChunks = kSteps * kWeightRow;
  static constexpr int kScaleChunks = kGrouped ? kTile.k / kMinGroupSize * kScaleRow : 0;
  static constexpr int kWeightsAt = kActivationChunks, kScalesAt = kWeightsAt + kWeightChunks;
  static constexpr int kStageChunks = kScalesAt + kScaleChunks;
  static_assert(kActivationChunks % kThreads == 0 && kWeightChunks % kThreads == 0 &&
                kScaleChunks <= kThreads);
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
