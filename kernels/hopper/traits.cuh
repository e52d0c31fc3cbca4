#pragma once
// What distinguishes one shipped Hopper GEMM from the next. Numbers only.

#include "kernels/device/decode.cuh"
#include "kernels/device/fragment.cuh"
#include "kernels/device/swizzle.cuh"
#include "kernels/gemm.hpp"

namespace mpk {

/// Who multiplies, and how they share a block's work: whole stages in turns, taken by teams of warps that
/// each multiply for themselves (mma.sync) or by warpgroups (wgmma), and summed at the end of a tile; or the
/// fragments of every stage, where the sums of all columns would not fit a thread's registers.
enum class Share { stages_by_warps, stages, fragments };

/// A block holds kTileM activation rows and 256 columns; four warps each decode one 64-column tile. Two
/// blocks fit a multiprocessor where kBlocksPerSm says so: the second is either of the same launch, or of the
/// next, whose weights are then under way before this one has ended. With few rows decoding is what takes
/// time and power: scales are applied to the sums of a group and not to weights; where activations have one
/// byte, always. A step is 32 bytes of a row of activations.
template <Weight kWeight_, Float kFloat_, int kTileM_, int kTileK_, int kStages_, Share kShare_,
          int kWarpgroups_, int kBlocksPerSm_, int kBuffers_, int kActivationBytes_ = 2>
struct HopperTraits {
  static constexpr Weight kWeight = kWeight_;
  static constexpr Float kFloat = kFloat_;
  static constexpr int kBits = bits_of(kWeight), kActivationBytes = kActivationBytes_;
  static constexpr int kTileM = kTileM_, kBlockN = 256, kTileK = kTileK_, kStages = kStages_;
  static constexpr int kWarpgroups = kWarpgroups_, kBlocksPerSm = kBlocksPerSm_;
  static constexpr int kConsumers = kWarpgroups * 128;  ///< threads that multiply
  static constexpr bool kByWarps = kShare_ == Share::stages_by_warps;
  static constexpr int kThreads =
      kConsumers + 128;  ///< one more warpgroup copies, and gives its registers away
  // What a block starts with is all that it can hand round, in units of 8 a thread.
  static constexpr int kLaunchRegisters = 65536 / kBlocksPerSm / kThreads / 8 * 8, kCopierRegisters = 32;
  static constexpr int kConsumerRegisters =
      (kLaunchRegisters * kThreads - kCopierRegisters * 128) / kConsumers / 8 * 8;

  static constexpr bool kShareStages = kShare_ != Share::fragments;
  /// Where that takes fewer operations: not where groups are short, nor where more sums than weights would be
  /// scaled, nor where an unscaled sum would leave the range of a float.
  static constexpr bool kScaleSums =
      kActivationBytes == 1 || (kTileM <= (kBits == 4 ? 32 : 16) && !is_fp4(kWeight) &&
                                !(kWeight == Weight::e4m3 && kFloat == Float::bf16));
  static constexpr bool kInSteps =  ///< what decode() gives
      kActivationBytes == 2 && kScaleSums && mpk::kInSteps<kWeight, kFloat>;
  static constexpr int kZeroBits = zero_bits(kWeight);
  static constexpr int kZeroColumns = kZeroBits == 4 ? 8 : 1;  ///< of an element that is copied
  static constexpr int kStepK = kActivationBytes == 1 ? kMmaK8 : kMmaK;
  static constexpr int kStepsPerScale = min_group_size(kWeight) / kStepK;
  /// A k-step s belongs to group s >> kGroupShift; -1: the layer says.
  static constexpr int kGroupShift = is_fp4(kWeight) ? kStepsPerScale / 2 : -1;

  static constexpr int kTilesN = kBlockN / kTileN;                   ///< a warp decodes one of them
  static constexpr int kTeams = kConsumers / kWarpSize / kTilesN;    ///< of as many warps: those of a stage
  static constexpr int kOwners = kShareStages ? kTeams : 1;          ///< of sums that add up to a tile's
  static constexpr int kReaders = kConsumers / kWarpSize / kOwners;  ///< warps that read a stage
  /// A place of the ring has the same readers at every use: who has not seen a use's copies arrive cannot
  /// wait for the next one's, as copies arrive in any order and a barrier's parity is the same for a use and
  /// the one before the last.
  static_assert(kStages % kOwners == 0);
  /// A warpgroup may hold a stage until it is in its next.
  static_assert(kByWarps || kStages >= 2 * kOwners);

  static constexpr int kSteps = kTileK / kStepK;                    ///< of a stage
  static constexpr int kFragments = kShareStages ? 4 : 4 / kTeams;  ///< of a tile, decoded by one warp
  static_assert(kSteps % 4 == 0 && kFragments * (kShareStages ? 1 : kTeams) == 4);
  /// Of decoded fragments: with two, the products of one are under way while the other is decoded. More than
  /// two ptxas does not follow: it makes the products wait for one another (C7513).
  static constexpr int kBuffers = kBuffers_;
  static_assert(kBuffers <= 2);
  /// A lane's words, or with its sums the zero points, take more registers.
  static constexpr bool kMoreToHold = kBits == 8 || (kActivationBytes == 1 && kZeroBits > 0);
  static constexpr int kWordBuffers =
      kMoreToHold && kConsumerRegisters < 112 ? 1 : 2;  ///< likewise, of words

  // One stage of the ring. Activations in panels of 128 bytes of every row, as the swizzle wants them.
  static constexpr int kTileBytes = kStepK * kTileN * kBits / 8;  ///< a step's 64 columns
  /// The copy engine takes boxes of at most 256 elements of 8 bytes a row: 256 columns of 4 bits, or 128 of
  /// 8; half as many where a step is 32 rows.
  static constexpr int kBoxRowBytes = 2048, kWordBoxes = kTilesN * kTileBytes / kBoxRowBytes;
  static constexpr int kBoxBytes = kSteps * kBoxRowBytes;
  static constexpr int kPanelK = 128 / kActivationBytes;
  static constexpr int kPanelBytes = kTileM * 128;
  /// Of a step's activations behind the first's, as wgmma_tile counts: in units of 16 bytes.
  static constexpr MPK_HOST_DEVICE int step_offset(int step) {
    return (step / 4 * kPanelBytes + step % 4 * 32) / 16;
  }
  static constexpr int kScaleSize = scale_bytes(kWeight);
  static constexpr int kScaleRowBytes = kBlockN * kScaleSize;
  static constexpr int kScaleRows = kTileK / min_group_size(kWeight);
  static constexpr int kActivationsAt = 0, kWeightsAt = kTileK / kPanelK * kPanelBytes;
  static constexpr int kScalesAt = kWeightsAt + kWordBoxes * kBoxBytes;
  static constexpr int kZerosAt = kScalesAt + kScaleRows * kScaleRowBytes,
                       kZeroRowBytes = kBlockN * kZeroBits / 8;
  static constexpr int kStageBytes = (kZerosAt + kScaleRows * kZeroRowBytes + 1023) / 1024 * 1024;
  static constexpr int kRingBytes = kStages * kStageBytes;

  // Float sums of a tile on their way out, rows padded so that the lanes of a warp meet in no bank: behind
  // the ring some rows at a time, or, after the last tile of a cluster's block, all of them where the ring
  // was.
  static constexpr int kSumRow = kBlockN + 4;
  static constexpr int kPartRows = kByWarps ? 8 : 16, kParts = kTileM / kPartRows;
  /// Sums that stand side by side: teams of warps leave theirs without waiting for one another.
  static constexpr int kSumSets = kByWarps ? kOwners : 1;
  static_assert(kSumSets * kTileM * kSumRow * 4 <= kRingBytes);
  /// Few sums go from block to block of a cluster by being pushed, to the same place: all of a tile.
  static constexpr bool kPush = kTileM <= 32;
  static constexpr int kPartBytes = kSumSets * kPartRows * kSumRow * 4,
                       kPushedBytes = kPush ? kTileM * kBlockN * 4 + GpuTraits::kMaxCluster * 16 : 0;
  static constexpr int kSumsAt = kRingBytes;
  static constexpr int kBarriersAt = kSumsAt + (kPartBytes > kPushedBytes ? kPartBytes : kPushedBytes);
  /// A barrier for copies to every stage and one for its readers, one for what is pushed; a flag.
  static constexpr int kFlagAt = kBarriersAt + 2 * kStages * 8, kPushedAt = kFlagAt + 8;
  static constexpr int kSmemBytes = kPushedAt + 8;
  static constexpr int kSmemOfSm = 228 * 1024, kSmemReserved = 1024;  ///< of it, for every block
  static_assert(kBlocksPerSm * (kSmemBytes + kSmemReserved) <= kSmemOfSm);

  /// One block's float sums of one tile in the workspace: rows of kBlockN.
  static constexpr int kSlotFloats = kTileM * kBlockN;
};

/// The same for activations of 8 bits. The other parameters are those of HopperTraits.
template <Activation8 kActivations8_, Weight kWeight_, Float kFloat_, int kTileM_, int kTileK_, int kStages_,
          Share kShare_, int... kNumbers>
struct HopperTraits8 : HopperTraits<kWeight_, kFloat_, kTileM_, kTileK_, kStages_, kShare_, kNumbers..., 1> {
  static constexpr Activation8 kActivations8 = kActivations8_;
  /// Every stage ends a group and a chain of FP8 sums, so that both are over when a stage is.
  static_assert(kTileK_ % 128 == 0 && kTileK_ % kChain8 == 0);
};

}  // namespace mpk
