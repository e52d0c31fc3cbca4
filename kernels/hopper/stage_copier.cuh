#pragma once
// What a Hopper GEMM is told, a block's way through its work, and the copies that it starts: global memory to
// a ring of stages in shared memory, which keeps filling across tile borders.

#include <cstdint>

#include <cuda.h>

#include "kernels/device/bulk_copy.cuh"
#include "kernels/device/grid_dependency.cuh"
#include "kernels/device/mbarrier.cuh"
#include "kernels/hopper/traits.cuh"
#include "kernels/partition.hpp"

namespace mpk {

struct HopperArgs {
  CUtensorMap activations;  // (m, k), boxes of kTileM rows of kPanelK, swizzled
  CUtensorMap words;        // (k / kStepK, n / 64 tiles), elements of 8 bytes, boxes of kSteps rows
  CUtensorMap scales;       // (groups, n), boxes of groups_per_stage rows of kBlockN
  CUtensorMap zeros;        // (groups, n / kZeroColumns), boxes of groups_per_stage rows of as many columns
  const std::uint16_t* column_scales;  // if not grouped: one a column, applied to the finished sums
  const std::uint16_t* bias;           // (n), permuted like column_scales, or null
  const float* row_scales;             // (m); activations of 8 bits only
  float global_scale;
  void* out;        // (m, n)
  int* counters;    // one per tile: how many of its blocks have left their sums
  float* partials;  // partition.slots() times kSlotFloats
  int m, n;
  int groups_per_stage, group_shift;  // k-step s belongs to group s >> group_shift
  bool grouped;
  std::uint32_t no_bits = 0;  // HopperMemory::release()
  Partition partition;
};

/// A block's way through its units of work: stages [stage, end) of `tile`, one after the other.
struct UnitCursor {
  int wave = 0, tile, stage, end, left;  // left: units of the stripe behind this tile's
  __device__ __forceinline__ explicit UnitCursor(const Partition& p) : left{p.length(blockIdx.x)} {
    if (p.waves > 0)
      tile = blockIdx.x, stage = 0, end = p.stages_per_tile;
    else
      enter_stripe(p);
  }
  __device__ __forceinline__ void enter_stripe(const Partition& p) {
    const int unit = p.begin(blockIdx.x);
    tile = p.waves * p.blocks + unit / p.stages_per_tile;
    stage = unit % p.stages_per_tile;
    take(p);
  }
  __device__ __forceinline__ void take(const Partition& p) {
    end = min(p.stages_per_tile, stage + left);
    left -= end - stage;
  }
  __device__ __forceinline__ bool more() const { return stage < end; }
  __device__ __forceinline__ void next_tile(const Partition& p) {
    if (wave < p.waves) {
      if (++wave < p.waves)
        tile += p.blocks, stage = 0;
      else
        enter_stripe(p);
    } else {
      ++tile;
      stage = 0;
      take(p);
    }
  }
};

/// The first row and column of a tile.
template <class T>
struct TilePlace {
  int m, n;
  __device__ __forceinline__ TilePlace(const Partition& p, int tile)
      : m{tile % p.tiles_m * T::kTileM}, n{tile / p.tiles_m * T::kBlockN} {}
};

/// A place in the ring, and the parity of the barrier phase that its next use ends.
template <int kStages>
struct RingSlot {
  int index = 0;
  std::uint32_t parity = 0;
  __device__ __forceinline__ void advance(int stages = 1) {
    index += stages;
    if (index < kStages) return;
    index -= kStages;
    parity ^= 1;
  }
};

template <class T>
struct HopperMemory {
  std::uint32_t base;
  std::uint32_t no_bits;  ///< 0, though the compiler does not know
  __device__ __forceinline__ std::uint32_t stage(int slot) const { return base + slot * T::kStageBytes; }
  __device__ __forceinline__ std::uint32_t ring() const { return base; }
  __device__ __forceinline__ std::uint32_t behind_ring() const { return base + T::kBehindRingAt; }
  __device__ __forceinline__ std::uint32_t full(int slot) const { return base + T::kBarriersAt + slot * 8; }
  __device__ __forceinline__ std::uint32_t empty(int slot) const { return full(T::kStages + slot); }
  __device__ __forceinline__ std::uint32_t pushed_barrier() const { return base + T::kPushedBarrierAt; }
  __device__ __forceinline__ std::uint32_t flag() const { return base + T::kFlagAt; }
  /// The copies of a use of a place of the ring are there. A barrier's parity is the same for a use and the
  /// one before the last: who did not read the use before, and may come too early, waits until its readers
  /// are through. (It cannot be two uses early: the copies of the one before are issued before those of the
  /// stage that this warp has read last.)
  __device__ __forceinline__ void wait_for_stage(int slot, std::uint32_t parity) const {
    if constexpr (!T::kSameReaders) barrier_wait(empty(slot), parity ^ 1);
    barrier_wait(full(slot), parity);
  }
  /// The warp has done with stage `slot`, if it is one: the copies may fill it again. An arrival does not
  /// wait for loads that are under way, and a copy out of the L2 cache may overtake them: so it depends on
  /// what the last of them brought, unless products made of that have been waited for.
  __device__ __forceinline__ void release(int& slot, int lane, std::uint32_t last_read = 0) const {
    if (slot >= 0 && lane == 0) barrier_arrive(empty(slot) + (last_read & no_bits));
    slot = -1;
  }
};

/// Global memory -> ring. One thread. What lies outside the matrices arrives as zeros.
template <class T>
struct StageCopier {
  const HopperArgs& args;
  const HopperMemory<T> memory;
  const UnitCursor begin{args.partition};
  const std::uint64_t once = evict_first(), often = evict_last();

  __device__ __forceinline__ void weights(int n0, int stage_of_tile, int slot) const {
    const std::uint32_t stage = memory.stage(slot), barrier = memory.full(slot);
    const int step = stage_of_tile * T::kSteps;
    // Zero points of a whole column are one group of them.
    const int scale_bytes = args.grouped ? args.groups_per_stage * T::kScaleRowBytes : 0;
    const int zero_bytes = T::kZeroBits > 0 ? args.groups_per_stage * T::kZeroRowBytes : 0;
    barrier_arrive_expect(barrier, T::kScalesAt + scale_bytes + zero_bytes);
#pragma unroll
    for (int box = 0; box < T::kWordBoxes; ++box)
      bulk_copy_box(stage + T::kWeightsAt + box * T::kBoxBytes, args.words,
                    n0 * T::kElementsPerColumn + box * (T::kBoxRowBytes / 8), step, barrier, once);
    if (args.grouped)
      bulk_copy_box(stage + T::kScalesAt, args.scales, n0, step >> args.group_shift, barrier, once);
    if constexpr (T::kZeroBits > 0)
      bulk_copy_box(stage + T::kZerosAt, args.zeros, n0 / T::kZeroColumns, step >> args.group_shift, barrier,
                    once);
  }
  __device__ __forceinline__ void activations(int m0, int stage_of_tile, int slot) const {
#pragma unroll
    for (int panel = 0; panel < T::kTileK / T::kPanelK; ++panel)
      bulk_copy_box(memory.stage(slot) + T::kActivationsAt + panel * T::kPanelBytes, args.activations,
                    stage_of_tile * T::kTileK + panel * T::kPanelK, m0, memory.full(slot), often);
  }
  /// `copy(place, stage, slot)` for the block's first stages, as many as the ring has places. Returns the way
  /// that is left.
  template <class Copy>
  __device__ __forceinline__ UnitCursor fill(Copy copy) const {
    const Partition& p = args.partition;
    int slot = 0;
    for (UnitCursor at = begin;; at.next_tile(p)) {
      if (!at.more()) return at;
      const TilePlace<T> place{p, at.tile};
      for (; at.more(); ++at.stage, ++slot) {
        if (slot == T::kStages) return at;
        copy(place, at.stage, slot);
      }
    }
  }

  /// Before the block's threads meet for the first time: makes the barriers, and fills the ring with weights,
  /// which do not depend on the kernel in front of this one.
  __device__ __forceinline__ void start() const {
    for (int slot = 0; slot < T::kStages; ++slot) {
      barrier_init(memory.full(slot), 1);
      barrier_init(memory.empty(slot), T::kTeamWarps);
    }
    barrier_init(memory.pushed_barrier(), 1);
    barrier_init_fence();
    fill([&](const TilePlace<T>& place, int stage, int slot) { weights(place.n, stage, slot); });
  }
  /// The rest.
  __device__ __forceinline__ void run() const {
    wait_for_earlier_kernels();
    UnitCursor at =
        fill([&](const TilePlace<T>& place, int stage, int slot) { activations(place.m, stage, slot); });
    for (RingSlot<T::kStages> slot; at.more(); at.next_tile(args.partition)) {
      const TilePlace<T> place{args.partition, at.tile};
      for (; at.more(); ++at.stage, slot.advance()) {
        barrier_wait(memory.empty(slot.index), slot.parity);
        weights(place.n, at.stage, slot.index);
        activations(place.m, at.stage, slot.index);
      }
    }
  }
};

}  // namespace mpk
