#pragma once
// The GEMM on Hopper. Bulk copies bring boxes of packed weights as they lie in memory, of activations and of
// scales, stage after stage of a ring that keeps filling across tile borders; one thread starts them. The
// warpgroups decode weights in registers, where Marlin's
// words are wgmma's A fragments (the GEMM's N is the instruction's M), and multiply them by the activations
// in shared memory. Blocks walk stripes of the work (partition.hpp).

#include <cstdint>

#include "kernels/device/bulk_copy.cuh"
#include "kernels/device/cluster.cuh"
#include "kernels/device/cp_async.cuh"
#include "kernels/device/decode.cuh"
#include "kernels/device/grid_dependency.cuh"
#include "kernels/device/mbarrier.cuh"
#include "kernels/device/wgmma.cuh"
#include "kernels/partition.hpp"
#include "kernels/wgmma/traits.cuh"

namespace mpk {

struct WgmmaArgs {
  CUtensorMap activations;  // (m, k), boxes of kTileM rows of 64, swizzled
  CUtensorMap words;        // (k / 16, n / 64 tiles), elements of 8 bytes, boxes of kSteps rows of 256
  CUtensorMap scales;       // (groups, n), boxes of groups_per_stage rows of 256
  CUtensorMap zeros;        // (groups, n / kZeroColumns), boxes of groups_per_stage rows of as many columns
  const std::uint16_t* column_scales;  // if not grouped: one a column, applied to the finished sums
  const std::uint16_t* bias;           // (n), permuted like column_scales, or null
  float global_scale;
  void* out;        // (m, n)
  int* counters;    // one per tile: how many of its blocks have left their sums
  float* partials;  // partition.slots() times kSlotFloats
  int m, n;
  int groups_per_stage, group_shift;  // k-step s belongs to group s >> group_shift
  bool grouped;
  Partition partition;
};

__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

/// A block's way through its units of work: stages [stage, end) of `tile`, one after the other.
struct UnitCursor {
  int wave = 0, tile, stage, end, left;  // left: units of the stripe behind this tile's
  __device__ __forceinline__ explicit UnitCursor(const Partition& p)
      : left{p.end(blockIdx.x) - p.begin(blockIdx.x)} {
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
  __device__ __forceinline__ void next(const Partition& p) {
    if (++stage == end) next_tile(p);
  }
};

/// A place in the ring, and the parity of the barrier phase that its next use ends.
template <int kStages>
struct RingSlot {
  int index = 0;
  std::uint32_t parity = 0;
  __device__ __forceinline__ void next() {
    if (++index < kStages) return;
    index = 0;
    parity ^= 1;
  }
};

template <class T>
struct WgmmaMemory {
  std::uint32_t base;
  __device__ __forceinline__ std::uint32_t stage(int slot) const { return base + slot * T::kStageBytes; }
  __device__ __forceinline__ std::uint32_t sums() const { return base + T::kSumsAt; }
  __device__ __forceinline__ std::uint32_t all_sums() const { return base; }
  __device__ __forceinline__ std::uint32_t full(int slot) const { return base + T::kBarriersAt + slot * 8; }
  __device__ __forceinline__ std::uint32_t empty(int slot) const { return full(T::kStages + slot); }
  __device__ __forceinline__ std::uint32_t flag() const { return base + T::kFlagAt; }
};

/// Global memory -> ring. One thread. What lies outside the matrices arrives as zeros.
template <class T>
struct StageCopier {
  const WgmmaArgs& args;
  const WgmmaMemory<T> memory;
  const std::uint64_t once = evict_first(), often = evict_last();

  __device__ __forceinline__ void weights(const UnitCursor& at, int slot) const {
    const std::uint32_t stage = memory.stage(slot), barrier = memory.full(slot);
    const int n0 = at.tile / args.partition.tiles_m * T::kBlockN, step = at.stage * T::kSteps;
    // Zero points of a whole column are one group of them.
    const int scale_bytes = args.grouped ? args.groups_per_stage * T::kScaleRowBytes : 0;
    const int zero_bytes = T::kZeroBits > 0 ? args.groups_per_stage * T::kZeroRowBytes : 0;
    barrier_arrive_expect(barrier, T::kScalesAt + scale_bytes + zero_bytes);
#pragma unroll
    for (int box = 0; box < T::kWordBoxes; ++box)
      bulk_copy_box(stage + T::kWeightsAt + box * T::kBoxBytes, args.words, n0 * T::kWordBoxes + box * 256,
                    step, barrier, once);
    if (args.grouped)
      bulk_copy_box(stage + T::kScalesAt, args.scales, n0, step >> args.group_shift, barrier, once);
    if constexpr (T::kZeroBits > 0)
      bulk_copy_box(stage + T::kZerosAt, args.zeros, n0 / T::kZeroColumns, step >> args.group_shift, barrier,
                    once);
  }
  __device__ __forceinline__ void activations(const UnitCursor& at, int slot) const {
#pragma unroll
    for (int panel = 0; panel < T::kTileK / 64; ++panel)
      bulk_copy_box(memory.stage(slot) + T::kActivationsAt + panel * T::kPanelBytes, args.activations,
                    at.stage * T::kTileK + panel * 64, at.tile % args.partition.tiles_m * T::kTileM,
                    memory.full(slot), often);
  }

  /// Before the block's threads meet for the first time: makes the barriers, and fills the ring with weights,
  /// which do not depend on the kernel in front of this one.
  __device__ __forceinline__ void start() const {
    for (int slot = 0; slot < T::kStages; ++slot) {
      barrier_init(memory.full(slot), 1);
      barrier_init(memory.empty(slot), T::kReaders);
    }
    barrier_init_fence();
    UnitCursor at{args.partition};
    for (int slot = 0; slot < T::kStages && at.more(); ++slot, at.next(args.partition)) weights(at, slot);
  }
  /// The rest.
  __device__ __forceinline__ void run() const {
    const Partition& p = args.partition;
    UnitCursor at{p};
    wait_for_earlier_kernels();
    for (int slot = 0; slot < T::kStages && at.more(); ++slot, at.next(p)) activations(at, slot);
    for (RingSlot<T::kStages> slot; at.more(); at.next(p), slot.next()) {
      barrier_wait(memory.empty(slot.index), slot.parity);
      weights(at, slot.index);
      activations(at, slot.index);
    }
  }
};

/// Ring -> accumulators -> sums in shared memory -> global memory.
template <class T>
struct WgmmaConsumer {
  const WgmmaArgs& args;
  const WgmmaMemory<T> memory;
  const int lane = threadIdx.x % kWarpSize;
  // Through a shuffle, so that the compiler knows that all lanes agree.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x / kWarpSize), 0);
  const int warpgroup = warp / 4, tile_of_warp = warp % 4;
  const int first_fragment = T::kShareStages ? 0 : warpgroup * T::kFragments;

  static constexpr int kTilesPerBox = T::kBoxRowBytes / T::kTileBytes;
  static constexpr int kWords = T::kFragments * T::kBits / 4;  ///< of one lane and step
  static constexpr int kSums = T::kTileM / 2;                  ///< of one thread and fragment
  const std::uint32_t words_at = T::kWeightsAt + tile_of_warp / kTilesPerBox * T::kBoxBytes +
                                 tile_of_warp % kTilesPerBox * T::kTileBytes;
  const std::uint32_t pairs_at =  ///< of the 16-bit values of this lane's columns, among a row's
      tile_of_warp * kTileN + grouped_scale_position(lane, 2 * first_fragment);
  const std::uint32_t scales_at = T::kScalesAt + pairs_at * T::kScaleSize;
  float acc[T::kFragments][kSums];
  /// With scales on sums: the sums of the group at hand, unscaled; acc then holds what is finished.
  float part[T::kScaleSums ? T::kFragments : 1][T::kScaleSums ? kSums : 1];
  std::uint32_t scales[T::kFragments];  ///< of columns 16 j + lane / 4 and 8 more, in two halves
  std::uint32_t zeros[T::kFragments];   ///< likewise, as decode() wants them
  bool part_empty;

  struct Words {
    std::uint32_t of[kWords];
    __device__ __forceinline__ void set(int i, uint4 v) {
      of[i] = v.x, of[i + 1] = v.y, of[i + 2] = v.z, of[i + 3] = v.w;
    }
  };
  __device__ __forceinline__ void load_words(std::uint32_t at, Words& words) const {
    if constexpr (T::kBits == 4 && kWords == 4) {
      words.set(0, load_shared(at + lane * 16));
    } else if constexpr (kWords == 1) {
      words.of[0] = load_shared_word(at + lane * 16 + first_fragment * 4);
    } else if constexpr (kWords == 2) {
      const uint2 v = load_shared2(at + lane * T::kBits * 4 + first_fragment * T::kBits);
      words.of[0] = v.x, words.of[1] = v.y;
    } else if constexpr (kWords == 4) {
      words.set(0, load_shared(at + lane * 32 + first_fragment * 8));
    } else {
      // Eight lanes at a time would meet in four groups of banks; every second four lanes read their halves
      // the other way round.
      const int swap = lane / 4 % 2;
      const uint4 a = load_shared(at + lane * 32 + swap * 16),
                  b = load_shared(at + lane * 32 + (16 - swap * 16));
      words.set(0, swap ? b : a);
      words.set(4, swap ? a : b);
    }
  }

  __device__ __forceinline__ int group_shift() const {
    return T::kGroupShift >= 0 ? T::kGroupShift : args.group_shift;
  }
  __device__ __forceinline__ bool grouped() const { return T::kGroupShift >= 0 || args.grouped; }
  __device__ __forceinline__ int row_of_scale(int step) const {
    return T::kSteps >> group_shift() ? step >> group_shift() : 0;
  }
  __device__ __forceinline__ void load_scales(std::uint32_t stage, int step) {
    const std::uint32_t at = stage + scales_at + row_of_scale(step) * T::kScaleRowBytes;
    if constexpr (T::kScaleSize == 2) {
      load_pairs(at, scales);
    } else if constexpr (T::kFragments == 4) {
      const uint2 v = load_shared2(at);
      decode_scales<T::kWeight, T::kFloat>(v.x, scales[0], scales[1]);
      decode_scales<T::kWeight, T::kFloat>(v.y, scales[2], scales[3]);
    } else {
      // Four columns stand together, and one warp's fragments are two of their pairs, or one.
      std::uint32_t pairs[2];
      decode_scales<T::kWeight, T::kFloat>(load_shared_word(at / 4 * 4), pairs[0], pairs[1]);
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j) scales[j] = (first_fragment + j) % 2 ? pairs[1] : pairs[0];
    }
  }
  static __device__ __forceinline__ void load_pairs(std::uint32_t at, std::uint32_t (&pairs)[T::kFragments]) {
    if constexpr (T::kFragments == 4) {
      const uint4 v = load_shared(at);
      pairs[0] = v.x, pairs[1] = v.y, pairs[2] = v.z, pairs[3] = v.w;
    } else if constexpr (T::kFragments == 2) {
      const uint2 v = load_shared2(at);
      pairs[0] = v.x, pairs[1] = v.y;
    } else {
      pairs[0] = load_shared_word(at);
    }
  }
  __device__ __forceinline__ void load_zeros(std::uint32_t stage, int step) {
    const std::uint32_t at = stage + T::kZerosAt + row_of_scale(step) * T::kZeroRowBytes;
    if constexpr (T::kZeroBits == 4) {
      const std::uint32_t word = load_shared_word(at + tile_of_warp * (kTileN / 2) + lane / 4 * 4);
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j) zeros[j] = decode_zeros<T::kFloat>(word, first_fragment + j);
    } else {
      load_pairs(at + pairs_at * 2, zeros);
    }
  }
  /// acc += scale * part, for the group that ends with `step`.
  __device__ __forceinline__ void fold(std::uint32_t stage, int step) {
    if (grouped()) load_scales(stage, step);
#pragma unroll
    for (int j = 0; j < T::kFragments; ++j) {
      const float2 s = to_floats<T::kFloat>(scales[j]);
#pragma unroll
      for (int i = 0; i < kSums; ++i) acc[j][i] = __fmaf_rn(i / 2 % 2 ? s.y : s.x, part[j][i], acc[j][i]);
    }
    part_empty = true;
  }

  /// Stage of the ring -> sums. `pending`: the stage read before, whose products may still be under way.
  __device__ __forceinline__ void multiply(int slot, int stage_step, int next_stage_step, int& pending) {
    const std::uint32_t stage = memory.stage(slot);
    const std::uint64_t tile = wgmma_tile(stage + T::kActivationsAt);
    std::uint32_t a[T::kBuffers][T::kFragments][4];
    Words words[T::kWordBuffers];
    if constexpr (T::kWordBuffers == 2) load_words(stage + words_at, words[0]);
#pragma unroll
    for (int step = 0; step < T::kSteps; ++step) {
      if (T::kWordBuffers == 1)
        load_words(stage + words_at + step * T::kBoxRowBytes, words[0]);
      else if (step + 1 < T::kSteps)
        load_words(stage + words_at + (step + 1) * T::kBoxRowBytes, words[(step + 1) % 2]);
      if (step % T::kStepsPerScale == 0 && (step == 0 || (step & ((1 << group_shift()) - 1)) == 0)) {
        if constexpr (!T::kScaleSums)
          if (grouped()) load_scales(stage, step);
        if constexpr (T::kZeroBits > 0) load_zeros(stage, step);
      }
      auto& fragments = a[step % T::kBuffers];
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j) {
        if constexpr (T::kZeroBits > 0)
          decode<T::kWeight, T::kFloat>(words[step % T::kWordBuffers].of, j, fragments[j], zeros[j]);
        else
          decode<T::kWeight, T::kFloat>(words[step % T::kWordBuffers].of, j, fragments[j]);
        if constexpr (!T::kScaleSums) scale<T::kFloat>(fragments[j], scales[j]);
      }
      wgmma_fence();
      const std::uint64_t b = tile + (step / 4 * T::kPanelBytes + step % 4 * (kMmaK * 2)) / 16;
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j)
        if constexpr (T::kScaleSums)
          wgmma<T::kFloat, T::kTileM>(part[j], fragments[j], b, !part_empty);
        else
          wgmma<T::kFloat, T::kTileM>(acc[j], fragments[j], b, true);
      wgmma_commit();
      if constexpr (T::kScaleSums) {
        part_empty = false;
        // A group ends with its last row, or where another warpgroup goes on.
        const int next = step + 1 < T::kSteps ? stage_step + step + 1 : next_stage_step;
        if (step % 2 == 1 && ((stage_step + step) ^ next) >> group_shift() != 0) {
          wgmma_wait<0>();
          fold(stage, step);
        } else {
          wgmma_wait<T::kBuffers - 1>();
        }
      } else {
        wgmma_wait<T::kBuffers - 1>();
      }
      if (step == 0) release(pending);
    }
    pending = slot;
    if constexpr (T::kScaleSums)
      if (part_empty) release(pending);  // who waits for copies must not hold room for them
  }
  /// The products of stage `slot` have ended: the copies may fill it again.
  __device__ __forceinline__ void release(int& slot) const {
    if (slot >= 0 && lane == 0) barrier_arrive(memory.empty(slot));
    slot = -1;
  }

  /// Those that multiply meet.
  __device__ __forceinline__ void sync() const {
    asm volatile("bar.sync 1, %0;" ::"n"(T::kConsumers) : "memory");
  }

  /// kRows rows of the accumulators, from part_idx * kRows on, to shared memory, summed over the owners in
  /// their order.
  template <int kRows>
  __device__ __forceinline__ void stage_sums(int part_idx, std::uint32_t to) const {
#pragma unroll
    for (int owner = 0; owner < T::kOwners; ++owner) {
      sync();  // the one before is through; before the first: nobody still reads what is overwritten
      if (T::kShareStages && warpgroup != owner) continue;
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j)
#pragma unroll
        for (int i = 0; i < kRows / 2; ++i) {
          const int n = tile_of_warp * kTileN + (first_fragment + j) * 16 + lane / 4 + 8 * (i / 2 % 2);
          const int m = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
          const std::uint32_t at = to + (m * T::kSumRow + n) * 4;
          float sum = acc[j][part_idx * (kRows / 2) + i];
          if (owner > 0) sum += load_shared_float(at);
          store_shared(at, sum);
        }
    }
  }
  /// One value a column, of four columns from n on: two neighbours lie together, the next two eight further
  /// on.
  __device__ __forceinline__ static float4 load_columns(const std::uint16_t* permuted, int n) {
    const std::uint16_t* at = permuted + n / kTileN * kTileN;
    const auto two = [&](int i) {
      return to_floats<T::kFloat>(
          *reinterpret_cast<const std::uint32_t*>(at + single_scale_position(n % kTileN + i)));
    };
    const float2 low = two(0), high = two(2);
    return {low.x, low.y, high.x, high.y};
  }
  /// Four finished sums, to the outputs (row, n ..).
  __device__ __forceinline__ void write(int row, int n, float4 sum) const {
    if (!grouped()) {
      const float4 scale = load_columns(args.column_scales, n);
      constexpr float kApplied = 1.0f / kUnscaled<T::kWeight, T::kFloat>;
      sum = {sum.x * (scale.x * kApplied), sum.y * (scale.y * kApplied), sum.z * (scale.z * kApplied),
             sum.w * (scale.w * kApplied)};
    }
    if constexpr (is_fp4(T::kWeight)) {
      const float global =
          (T::kWeight == Weight::nvfp4 ? args.global_scale : 1.0f) * kLeftOut<T::kWeight, T::kFloat>;
      sum = {sum.x * global, sum.y * global, sum.z * global, sum.w * global};
    }
    if (args.bias) sum = sum + load_columns(args.bias, n);
    const uint2 v{round_to<T::kFloat>(sum.x, sum.y), round_to<T::kFloat>(sum.z, sum.w)};
    *reinterpret_cast<uint2*>(static_cast<std::uint16_t*>(args.out) +
                              static_cast<std::int64_t>(row) * args.n + n) = v;
  }

  __device__ __forceinline__ float* slot_of(int block, int tile) const {
    return args.partials + args.partition.slot(block, tile) * static_cast<std::int64_t>(T::kSlotFloats);
  }

  static constexpr int kQuads = T::kBlockN / 4;  ///< of four outputs, in a row of a tile

  /// A tile whose blocks are a cluster, the last of each: every block adds up its share of the outputs, in
  /// the order of the blocks.
  __device__ __forceinline__ void finish_in_cluster(int tile) const {
    const Partition& p = args.partition;
    const int m0 = tile % p.tiles_m * T::kTileM, n0 = tile / p.tiles_m * T::kBlockN;
    const int rank = static_cast<int>(blockIdx.x) % p.parts, rows = min(T::kTileM, args.m - m0);
    stage_sums<T::kTileM>(0, memory.all_sums());
    cluster_arrive();
    cluster_wait();
    for (int i = rank * T::kConsumers + threadIdx.x; i < rows * kQuads; i += p.parts * T::kConsumers) {
      const int row = i / kQuads, n = i % kQuads * 4;
      if (n0 + n >= args.n) continue;
      float4 sum{0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 4
      for (int block = 0; block < p.parts; ++block)
        sum = sum + load_remote(memory.all_sums() + (row * T::kSumRow + n) * 4, block);
      write(m0 + row, n0 + n, sum);
    }
    cluster_arrive();
    cluster_wait();  // the others may still be reading the sums of this block
  }

  __device__ __forceinline__ void finish_tile(int tile) const {
    const Partition& p = args.partition;
    const int first = p.first_block(tile), last = p.last_block(tile);
    if (p.parts > 1 && first != last) return finish_in_cluster(tile);
    const int m0 = tile % p.tiles_m * T::kTileM, n0 = tile / p.tiles_m * T::kBlockN,
              rows = min(T::kTileM, args.m - m0);
    float* slot = slot_of(blockIdx.x, tile);
#pragma unroll
    for (int part_idx = 0; part_idx < T::kParts; ++part_idx) {
      const int first_row = part_idx * T::kPartRows, rows_here = min(T::kPartRows, rows - first_row);
      if (rows_here <= 0) break;
      stage_sums<T::kPartRows>(part_idx, memory.sums());
      sync();
      for (int i = threadIdx.x; i < rows_here * kQuads; i += T::kConsumers) {
        const int row = i / kQuads, n = i % kQuads * 4;
        if (n0 + n >= args.n) continue;
        const float4 sum = load_shared_floats(memory.sums() + (row * T::kSumRow + n) * 4);
        if (first == last)
          write(m0 + first_row + row, n0 + n, sum);
        else
          __stcg(reinterpret_cast<float4*>(slot + (first_row + row) * T::kBlockN + n), sum);
      }
    }
    if (first == last) return;

    __threadfence();
    sync();
    if (threadIdx.x == 0) {
      const int others = last - first, before = atomicAdd(args.counters + tile, 1);
      if (before == others) args.counters[tile] = 0;
      asm volatile("st.shared.s32 [%0], %1;" ::"r"(memory.flag()), "r"(before == others ? 1 : 0) : "memory");
    }
    sync();
    int all_there;
    asm volatile("ld.shared.s32 %0, [%1];" : "=r"(all_there) : "r"(memory.flag()) : "memory");
    if (!all_there) return;
    __threadfence();
    // Several quads at a time, so that their loads are under way together.
    constexpr int kAtOnce = T::kTileM * kQuads / T::kConsumers < 4 ? T::kTileM * kQuads / T::kConsumers : 4;
    for (int start = threadIdx.x; start < rows * kQuads; start += kAtOnce * T::kConsumers) {
      float4 sum[kAtOnce];
#pragma unroll
      for (float4& s : sum) s = {0.0f, 0.0f, 0.0f, 0.0f};
      for (int block = first; block <= last; ++block) {
        const float* from = slot_of(block, tile);
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          const int quad = start + i * T::kConsumers, n = quad % kQuads * 4;
          if (quad < rows * kQuads && n0 + n < args.n)
            sum[i] = sum[i] + __ldcg(reinterpret_cast<const float4*>(from + quad / kQuads * T::kBlockN + n));
        }
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int quad = start + i * T::kConsumers, n = quad % kQuads * 4;
        if (quad < rows * kQuads && n0 + n < args.n) write(m0 + quad / kQuads, n0 + n, sum[i]);
      }
    }
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (auto& fragment : acc)
#pragma unroll
      for (float& value : fragment) value = 0.0f;
    if (!grouped())
#pragma unroll
      for (std::uint32_t& s : scales)
        s = round_to<T::kFloat>(kUnscaled<T::kWeight, T::kFloat>, kUnscaled<T::kWeight, T::kFloat>);
    part_empty = true;
  }

  __device__ __forceinline__ void run() {
    const Partition& p = args.partition;
    RingSlot<T::kStages> slot;
    bool first = true;
    int turn = 0;  // whose stage it is
    for (UnitCursor at{p}; at.more(); at.next_tile(p)) {
      clear();
      int pending = -1;
#pragma unroll 1
      for (; at.stage < at.end; ++at.stage, slot.next()) {
        if constexpr (T::kShareStages) {
          const bool mine = turn == warpgroup;
          turn = turn + 1 == T::kWarpgroups ? 0 : turn + 1;
          if (!mine) continue;
        }
        barrier_wait(memory.full(slot.index), slot.parity);
        const int step = at.stage * T::kSteps;
        multiply(slot.index, step, step + T::kOwners * T::kSteps, pending);
      }
      wgmma_wait<0>();
      if constexpr (T::kScaleSums)
        if (!part_empty) fold(memory.stage(pending), T::kSteps - 1);
      release(pending);
      if (first) wait_for_earlier_kernels();  // nobody still uses the outputs or the workspace
      first = false;
      finish_tile(at.tile);
    }
  }
};

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocksPerSm)
    wgmma_gemm_kernel(const __grid_constant__ WgmmaArgs args) {
  extern __shared__ std::uint8_t shared[];
  const WgmmaMemory<T> memory{(shared_address(shared) + 1023) / 1024 * 1024};
  const StageCopier<T> copier{args, memory};
  let_next_kernel_start();
  if (threadIdx.x == T::kConsumers) copier.start();
  __syncthreads();
  if (threadIdx.x >= T::kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(T::kCopierRegisters));
    if (threadIdx.x == T::kConsumers) copier.run();
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(T::kConsumerRegisters));
    WgmmaConsumer<T>{args, memory}.run();
  }
}

}  // namespace mpk
