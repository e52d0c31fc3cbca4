#pragma once
// What distinguishes one shipped Hopper GEMM from the next. Numbers only.

#include "kernels/device/decode.cuh"
#include "kernels/device/fragment.cuh"
#include "kernels/device/swizzle.cuh"

namespace mpk {

/// A block holds kTileM activation rows and 256 columns; the four warps of a warpgroup each decode one
/// 64-column tile. Up to 64 rows the warpgroups take turns at the stages and add up at the end. Above, the
/// sums of all columns would not fit a thread's registers, and two warpgroups share the fragments of every
/// tile. Up to 16 rows, where decoding is what takes time, scales are applied to the sums of a group and not
/// to weights.
template <Weight kWeight_, Float kFloat_, int kTileM_, int kTileK_, int kStages_, int kWarpgroups_>
struct WgmmaTraits {
  static constexpr Weight kWeight = kWeight_;
  static constexpr Float kFloat = kFloat_;
  static constexpr int kBits = bits_of(kWeight);
  static constexpr int kTileM = kTileM_, kBlockN = 256, kTileK = kTileK_, kStages = kStages_;

  static constexpr bool kSplitK = kTileM <= 64;
  /// Not where groups are short, nor where an unscaled sum would leave the range of a float.
  static constexpr bool kScaleSums =
      kTileM <= 16 && !is_fp4(kWeight) && !(kWeight == Weight::e4m3 && kFloat == Float::bf16);
  static constexpr bool kZeros = kWeight == Weight::u4;
  static constexpr int kWarpgroups = kWarpgroups_;  ///< that multiply
  static constexpr int kConsumers = kWarpgroups * 128;
  static constexpr int kConsumerWarps = kConsumers / kWarpSize / (kSplitK ? kWarpgroups : 1);  ///< of a stage
  static constexpr int kThreads =
      kConsumers + 128;  ///< one more warpgroup copies, and gives its registers away
  // What a block starts with is all that it can hand round, in units of 8 a thread.
  static constexpr int kLaunchRegisters = 65536 / kThreads / 8 * 8, kCopierRegisters = 24;
  static constexpr int kConsumerRegisters =
      (kLaunchRegisters * kThreads - kCopierRegisters * 128) / kConsumers / 8 * 8;

  static constexpr int kSteps = kTileK / kMmaK;                     ///< 16-row steps of a stage
  static constexpr int kFragments = kSplitK ? 4 : 4 / kWarpgroups;  ///< of a tile, decoded by one warp
  static constexpr int kBuffers = kWarpgroups <= 3 ? 2 : 1;         ///< of decoded fragments
  static_assert(kSteps % 4 == 0 && (kSplitK || kWarpgroups == 2));

  // One stage of the ring. Activations in panels of 64 values of k, as the swizzle wants them.
  static constexpr int kTileBytes = kMmaK * kTileN * kBits / 8;  ///< one 16 x 64 weight tile
  /// The copy engine takes boxes of at most 256 elements of 8 bytes a row: 256 columns of 4 bits, or 128
  /// of 8.
  static constexpr int kWordBoxes = kBits / 4, kBoxRowBytes = 2048, kBoxBytes = kSteps * kBoxRowBytes;
  static constexpr int kPanelBytes = kTileM * 128;
  static constexpr int kMinGroupSize = kWeight == Weight::nvfp4 ? 16 : 32;
  static constexpr int kStepsPerScale = kMinGroupSize / kMmaK;
  static constexpr int kScaleSize = scale_bytes(kWeight);
  static constexpr int kScaleRowBytes = kBlockN * kScaleSize;
  static constexpr int kScaleRows = kTileK / kMinGroupSize;
  static constexpr int kActivationsAt = 0, kWeightsAt = kTileK / 64 * kPanelBytes;
  static constexpr int kScalesAt = kWeightsAt + kWordBoxes * kBoxBytes;
  static constexpr int kZerosAt = kScalesAt + kScaleRows * kScaleRowBytes, kZeroRowBytes = kBlockN / 2;
  static constexpr int kStageBytes =
      (kZerosAt + (kZeros ? kScaleRows * kZeroRowBytes : 0) + 1023) / 1024 * 1024;

  // Behind it the float sums of a tile on their way out, so many rows at a time; rows are padded so that the
  // lanes of a warp meet in no bank.
  static constexpr int kPartRows = kTileM < 64 ? kTileM : 64, kParts = kTileM / kPartRows;
  static constexpr int kSumRow = kBlockN + 4;
  static constexpr int kSumsOfBlock = kSplitK && kTileM <= 16 ? 2 : 1;  ///< the rest is added to these
  static constexpr int kSumBytes = kPartRows * kSumRow * 4;
  static constexpr int kSumsAt = kStages * kStageBytes;
  static constexpr int kBarriersAt = kSumsAt + kSumsOfBlock * kSumBytes;
  static constexpr int kSmemBytes = kBarriersAt + 2 * kStages * 8 + 16 + 1024;  ///< 1024 to align the ring
  static_assert(kSmemBytes <= 227 * 1024);

  /// One block's float sums of one tile in the workspace: rows of kBlockN.
  static constexpr int kSlotFloats = kTileM * kBlockN;
};

}  // namespace mpk
