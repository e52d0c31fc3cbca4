#pragma once
// What distinguishes one shipped Hopper GEMM from the next. Numbers only.

#include <algorithm>

#include "kernels/device/decode.cuh"
#include "kernels/device/fragment.cuh"
#include "kernels/device/swizzle.cuh"
#include "kernels/gemm.hpp"

namespace mpk {

/// Who multiplies: warps, each for itself (mma.sync), or four together (wgmma).
enum class By { warps, warpgroups };

/// A block holds kTileM activation rows and kBlockN columns. Of every step of a stage, kBlockN / 16 fragments
/// of weights, a warp decodes kFragments; as many warps as it takes to decode them all are a team, and teams
/// take stages in turns: their sums are added up at the end of a tile. Two blocks fit a multiprocessor where
/// kBlocksPerSm says so: the second is either of the same launch, or of the next, whose weights are then
/// under way before this one has ended. With few rows decoding is what takes time and power: scales are
/// applied to the sums of a group and not to weights; where activations have one byte, always. A step is 32
/// bytes of a row of activations.
template <Weight kWeight_, Float kFloat_, int kTileM_, int kBlockN_, int kTileK_, int kStages_, By kBy_,
          int kFragments_, int kWarpgroups_, int kBlocksPerSm_, int kBuffers_, int kActivationBytes_ = 2>
struct HopperTraits {
  static constexpr Weight kWeight = kWeight_;
  static constexpr Float kFloat = kFloat_;
  static constexpr int kBits = bits_of(kWeight), kActivationBytes = kActivationBytes_;
  static constexpr int kTileM = kTileM_, kBlockN = kBlockN_, kTileK = kTileK_, kStages = kStages_;
  static constexpr int kWarpgroups = kWarpgroups_, kBlocksPerSm = kBlocksPerSm_;
  static constexpr int kConsumers = kWarpgroups * 128;  ///< threads that multiply
  static constexpr bool kByWarps = kBy_ == By::warps;
  static constexpr int kThreads =
      kConsumers + 128;  ///< one more warpgroup copies, and gives its registers away
  // What a block starts with is all that it can hand round, in units of 8 a thread.
  static constexpr int kLaunchRegisters = 65536 / kBlocksPerSm / kThreads / 8 * 8, kCopierRegisters = 32;
  static constexpr int kConsumerRegisters =
      (kLaunchRegisters * kThreads - kCopierRegisters * 128) / kConsumers / 8 * 8;

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

  static constexpr int kTilesN = kBlockN / kTileN;
  static constexpr int kFragments = kFragments_, kFragmentsOfTile = kTileN / 16;  ///< one is 16 x 16
  static constexpr int kTeamWarps = kTilesN * kFragmentsOfTile / kFragments;
  static constexpr int kTeams = kConsumers / kWarpSize / kTeamWarps;
  static_assert(kTeams * kTeamWarps * kWarpSize == kConsumers && (kByWarps || kTeamWarps % 4 == 0));
  /// A team waits for a use of a place of the ring while the copies of its last stage may be the newest that
  /// it has seen; a warpgroup holds that one until it is in the next.
  static_assert(kStages >= kTeams + (kByWarps ? 0 : 1));
  /// Does a place of the ring have the same readers at every use?
  static constexpr bool kSameReaders = kStages % kTeams == 0;

  static constexpr int kSteps = kTileK / kStepK;  ///< of a stage
  static_assert(kSteps % 4 == 0);
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
  static constexpr int kWordBoxes = (kTilesN * kTileBytes + 2047) / 2048,
                       kBoxRowBytes = kTilesN * kTileBytes / kWordBoxes;
  static constexpr int kElementsPerColumn = kTileBytes / kTileN / 8;  ///< of a step
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

  // Sums of a tile on their way out (tile_finisher.cuh): quads of every thread to be added up over the teams,
  // rows to be put into order. All of them where the ring was, after a block's last tile, or behind it as
  // many as there is room for.
  static constexpr int kQuads = kFragments * kTileM / 8, kOwnQuads = (kQuads + kTeams - 1) / kTeams;
  static constexpr int kQuadBytes = kTeamWarps / kTilesN * kWarpSize * 16;  ///< of all warps of 64 columns
  /// Few sums go from block to block of a cluster by being pushed: to every block its share of all others',
  /// where it finished earlier tiles.
  static constexpr bool kPush = kTileM * kBlockN <= 32 * 256;
  static constexpr int most_pushed() {
    int most = 0;
    for (int parts = 2; parts <= GpuTraits::kMaxCluster; ++parts)
      most = std::max(most, (parts - 1) * ((kQuads * kTilesN + parts - 1) / parts));
    return most;
  }
  static constexpr int kPushedBytes = kPush ? most_pushed() * kQuadBytes : 0, kBehindRingAt = kRingBytes;
  static constexpr int kSmemOfSm = 228 * 1024, kSmemReserved = 1024;  ///< of it, for every block
  static constexpr int kRoom =
      kSmemOfSm / kBlocksPerSm - kSmemReserved - kBehindRingAt - (2 * kStages + 2) * 8;
  /// Of a thread: two teams send each other halves, more leave all they have.
  static constexpr int kAllQuads = kTeams == 2 ? kOwnQuads : kQuads;
  static constexpr int kOwnBytes = kOwnQuads * kConsumers * 16,
                       kAllQuadBytes = kTeams == 1 ? 0 : kAllQuads * kConsumers * 16,
                       kAllOutBytes = kFragments == 1 ? kTileM * kBlockN * 2 : 0;
  /// `all`, or that halved as often as it takes to fit into kRoom.
  static constexpr int part_that_fits(int all, int bytes) {
    for (; bytes > kRoom; bytes /= 2) all /= 2;
    return all;
  }
  static constexpr int kPieceQuads = part_that_fits(kAllQuads, kAllQuadBytes),
                       kOutRows = part_that_fits(kTileM, kAllOutBytes);
  static constexpr bool kAllAtOnce = kPieceQuads == kAllQuads && kOutRows == kTileM;
  static_assert(kPieceQuads > 0 && kOutRows >= 8 && kAllQuads % kPieceQuads == 0);
  static_assert(std::max({kAllQuadBytes, kAllOutBytes, kOwnBytes}) <= kRingBytes);
  /// In a cluster rows are put into order where the others do not read sums.
  static constexpr int kPulledBytes = kPush ? 0 : kOwnBytes;
  static constexpr bool kOutBehindPulled = kPulledBytes + kAllOutBytes <= kRingBytes;
  static constexpr int kClusterOutAt = kOutBehindPulled ? kPulledBytes : kBehindRingAt,
                       kClusterOutRows = kOutBehindPulled ? kTileM : kOutRows;
  static constexpr int kPieceBytes = kAllQuadBytes / kAllQuads * kPieceQuads,
                       kOutBytes = kAllOutBytes / kTileM * kOutRows,
                       kBehindRingBytes = std::max({kPushedBytes, kPieceBytes, kOutBytes});
  static constexpr int kBarriersAt = kBehindRingAt + kBehindRingBytes;
  /// A barrier for copies to every stage and one for its readers, one for what is pushed; a flag.
  static constexpr int kPushedBarrierAt = kBarriersAt + 2 * kStages * 8, kFlagAt = kPushedBarrierAt + 8;
  static constexpr int kSmemBytes = kFlagAt + 8;
  static_assert(kBlocksPerSm * (kSmemBytes + kSmemReserved) <= kSmemOfSm);

  /// One block's float sums of one tile in the workspace.
  static constexpr int kSlotFloats = kTileM * kBlockN;
};

/// The same for activations of 8 bits. The other parameters are those of HopperTraits.
template <Activation8 kActivations8_, Weight kWeight_, Float kFloat_, int kTileM_, int kBlockN_, int kTileK_,
          int kStages_, int... kNumbers>
struct HopperTraits8
    : HopperTraits<kWeight_, kFloat_, kTileM_, kBlockN_, kTileK_, kStages_, By::warpgroups, kNumbers..., 1> {
  static constexpr Activation8 kActivations8 = kActivations8_;
  /// Every stage ends a group and a chain of FP8 sums, so that both are over when a stage is.
  static_assert(kTileK_ % 128 == 0 && kTileK_ % kChain8 == 0);
};

}  // namespace mpk
