#pragma once
// What distinguishes one shipped GEMM kernel from the next. Numbers only: compiles as plain C++.

#include "kernels/device/fragment.cuh"
#include "kernels/device/swizzle.cuh"
#include "kernels/gemm.hpp"
#include "kernels/weight.hpp"

namespace mpk {

struct Tile {
  int m, n, k;
};

/// Eight warps share a block tile. Each multiplies its rows by whole 64-column weight tiles, so 64 columns go
/// to a warp; what is left of the eight splits every k-stage by 16-row steps, taken in turns, and adds up at
/// the end of a tile. Scales of groups are applied to the weights (to the sums of a group where activations
/// have one byte), one scale per column to the finished sums. A step is 32 bytes of a row of activations.
template <Weight kWeight_, Float kFloat_, int kTileM, int kTileN_, int kTileK_, int kWarpsM_, int kStages_,
          int kBlocksPerSm_, int kActivationBytes_ = 2>
struct GemmTraits {
  static constexpr Weight kWeight = kWeight_;
  static constexpr Float kFloat = kFloat_;
  static constexpr int kBits = bits_of(kWeight), kActivationBytes = kActivationBytes_;
  static constexpr Tile kTile{kTileM, kTileN_, kTileK_};
  static constexpr int kStages = kStages_, kBlocksPerSm = kBlocksPerSm_;

  static constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kTile.n / kTileN, kWarpsK = kWarps / (kWarpsM * kWarpsN);
  static_assert(kWarpsM * kWarpsN * kWarpsK == kWarps && kTile.n % kTileN == 0);

  static constexpr int kStepK = kActivationBytes == 1 ? kMmaK8 : kMmaK;
  static constexpr int kSteps = kTile.k / kStepK;  ///< of a stage
  static constexpr int kStepsPerWarp = kSteps / kWarpsK;
  static constexpr int kBlocksM = kTile.m / (kMmaM * kWarpsM);  ///< mma rows of a warp
  static_assert(kStepsPerWarp * kWarpsK == kSteps && kBlocksM * kMmaM * kWarpsM == kTile.m);

  static constexpr int kZeroBits = zero_bits(kWeight);
  static constexpr int kScaleSize = scale_bytes(kWeight);
  static constexpr int kGroups = kTile.k / min_group_size(kWeight);  ///< of a stage, at most

  // One stage of the ring, in chunks of 16 bytes: activations, weights, scales, zero points.
  static constexpr int kActivationRow = kTile.k * kActivationBytes / kChunkBytes;  ///< chunks of one row
  static constexpr int kTileChunks = kStepK * kTileN * kBits / 8 / kChunkBytes;    ///< a step's 64 columns
  static constexpr int kWeightRow = kWarpsN * kTileChunks;                         ///< of one step
  static constexpr int kScaleRow = kTile.n * kScaleSize / kChunkBytes;             ///< of one group
  static constexpr int kZeroRow = kTile.n * kZeroBits / 8 / kChunkBytes;
  static constexpr int kActivationChunks = kTile.m * kActivationRow;
  static constexpr int kWeightChunks = kSteps * kWeightRow;
  static constexpr int kScaleChunks = kGroups * kScaleRow;
  static constexpr int kZeroChunks = kGroups * kZeroRow;
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

/// The same for activations of 8 bits. The other parameters are those of GemmTraits.
template <Activation8 kActivations8_, Weight kWeight_, Float kFloat_, int... kNumbers>
struct GemmTraits8 : GemmTraits<kWeight_, kFloat_, kNumbers..., 1> {
  static constexpr Activation8 kActivations8 = kActivations8_;
  static_assert(kActivations8 == Activation8::int8 ||
                    GemmTraits8::kStepsPerWarp * kMmaK8 <= kChain8,  // a warp's sums leave FP8 once a stage
                "FP8 sums would be longer chains than their error bound allows");
};

}  // namespace mpk
