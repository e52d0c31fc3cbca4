#pragma once
// The sums of a block's tile, once they are summed: accumulators to shared memory, then added up over the
// blocks that share the tile, scaled, rounded and written.

#include <cstdint>

#include "kernels/device/cluster.cuh"
#include "kernels/device/cp_async.cuh"
#include "kernels/device/decode.cuh"
#include "kernels/device/decode8.cuh"
#include "kernels/device/mbarrier.cuh"
#include "kernels/hopper/stage_copier.cuh"

namespace mpk {

__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

template <int kFragments, int kValues>
__device__ __forceinline__ void set_to_zero(float (&sums)[kFragments][kValues]) {
#pragma unroll
  for (auto& fragment : sums)
#pragma unroll
    for (float& value : fragment) value = 0.0f;
}

template <class T>
struct HopperSums {
  const HopperArgs& args;
  const HopperMemory<T> memory;
  const int lane = threadIdx.x % kWarpSize;
  // Through a shuffle, so that the compiler knows that all lanes agree.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x / kWarpSize), 0);
  const int team = warp / T::kTilesN, tile_of_warp = warp % T::kTilesN;
  const int first_fragment = fragment_of_lane();

  static constexpr int kValues = T::kTileM / 2;  ///< of one thread and fragment
  float acc[T::kFragments][kValues];

  /// Where teams share a tile's fragments. Words of one fragment alone are 16 bytes apart, or pairs of them
  /// 32, and would meet in a quarter of the banks: so every team has a fourth of each fragment. Which columns
  /// a row of wgmma stands for is free, as long as the four lanes that hold it agree.
  __device__ __forceinline__ int fragment_of_lane() const {
    if constexpr (T::kShareStages)
      return 0;
    else if constexpr (T::kFragments == 1)
      return (team + lane / (T::kBits == 4 ? 8 : 4)) % 4;
    else
      return team * T::kFragments;
  }
  __device__ __forceinline__ bool grouped() const { return T::kGroupShift >= 0 || args.grouped; }
  __device__ __forceinline__ int group_shift() const {
    return T::kGroupShift >= 0 ? T::kGroupShift : args.group_shift;
  }

  __device__ __forceinline__ bool in_cluster(int tile) const {
    return args.partition.parts > 1 && tile >= args.partition.whole_tiles();
  }
  __device__ __forceinline__ void begin_tile(int tile) const {
    if (T::kPush && in_cluster(tile)) cluster_arrive();  // from now on the others may push
  }
  /// Those that multiply meet.
  __device__ __forceinline__ void sync() const {
    asm volatile("bar.sync 1, %0;" ::"n"(T::kConsumers) : "memory");
  }

  /// kRows rows of the accumulators, from part_idx * kRows on, to shared memory, where the teams' are added
  /// up in order, or left side by side (kSumSets) for load_sum().
  template <int kRows>
  __device__ __forceinline__ void stage_sums(int part_idx, std::uint32_t to) const {
    constexpr int kTurns = T::kSumSets == 1 ? T::kOwners : 1;
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      sync();  // the one before is through; before the first: nobody still reads what is overwritten
      if (kTurns > 1 && team != turn) continue;
      const std::uint32_t set = to + (T::kSumSets > 1 ? team * kSetBytes<kRows> : 0);
#pragma unroll
      for (int j = 0; j < T::kFragments; ++j)
#pragma unroll
        for (int i = 0; i < kRows / 2; ++i) {
          const int n = tile_of_warp * kTileN + (first_fragment + j) * 16 + lane / 4 + 8 * (i / 2 % 2);
          const int m = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
          const std::uint32_t at = set + (m * T::kSumRow + n) * 4;
          float sum = acc[j][part_idx * (kRows / 2) + i];
          if (turn > 0) sum += load_shared_float(at);
          store_shared(at, sum);
        }
    }
    sync();
  }
  template <int kRows>
  static constexpr int kSetBytes = kRows* T::kSumRow * 4;
  /// Four sums that stage_sums<kRows> left.
  template <int kRows>
  __device__ __forceinline__ float4 load_sum(std::uint32_t at) const {
    float4 sum = load_shared_floats(at);
#pragma unroll
    for (int set = 1; set < T::kSumSets; ++set) sum = sum + load_shared_floats(at + set * kSetBytes<kRows>);
    return sum;
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
    if constexpr ((is_fp4(T::kWeight) && T::kActivationBytes == 2) || T::kInSteps) {
      const float global = (T::kWeight == Weight::nvfp4 ? args.global_scale : 1.0f) *
                           kLeftOut<T::kWeight, T::kFloat, T::kInSteps>;
      sum = {sum.x * global, sum.y * global, sum.z * global, sum.w * global};
    }
    if constexpr (T::kActivationBytes == 1) {
      // Not fused with the addition of a bias: these products round, too.
      const float scale = __ldg(args.row_scales + row);
      constexpr float kApplied = 1.0f / kDecoded8<T::kWeight, T::kActivations8>;
      sum = {__fmul_rn(sum.x * kApplied, scale), __fmul_rn(sum.y * kApplied, scale),
             __fmul_rn(sum.z * kApplied, scale), __fmul_rn(sum.w * kApplied, scale)};
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

  /// A tile whose blocks are a cluster, the last of each: every block adds up its share of the outputs, from
  /// its own sums on and round to those of the block in front of it, so that not all read one block's memory.
  __device__ __forceinline__ void pull_in_cluster(int m0, int n0, int rows) const {
    const Partition& p = args.partition;
    const int rank = cluster_rank();
    stage_sums<T::kTileM>(0, memory.all_sums());
    if (threadIdx.x == 0) cluster_release();
    __syncwarp();
    cluster_arrive();
    cluster_wait();
    for (int i = rank * T::kConsumers + threadIdx.x; i < rows * kQuads; i += p.parts * T::kConsumers) {
      const int row = i / kQuads, n = i % kQuads * 4;
      if (n0 + n >= args.n) continue;
      const std::uint32_t at = memory.all_sums() + (row * T::kSumRow + n) * 4;
      float4 sum = load_shared_floats(at);
#pragma unroll 4
      for (int step = 1; step < p.parts; ++step)
        sum = sum + load_remote(at, rank + step < p.parts ? rank + step : rank + step - p.parts);
      write(m0 + row, n0 + n, sum);
    }
    cluster_arrive();
    cluster_wait();  // the others may still be reading the sums of this block
  }
  /// The same, where the sums are few: every block sends the others their shares of its sums, and adds up
  /// what it gets in the order of the blocks. It waits for nothing else, and nobody reads its memory.
  __device__ __forceinline__ void push_in_cluster(int m0, int n0, int rows) const {
    const int parts = args.partition.parts, rank = cluster_rank();
    const int quads = rows * kQuads, share = (quads + parts - 1) / args.partition.parts_of_tile,
              mine = min(share, quads - rank * share);
    if (threadIdx.x == 0) barrier_arrive_expect(memory.pushed(), mine > 0 ? (parts - 1) * mine * 16 : 0);
    stage_sums<T::kTileM>(0, memory.all_sums());
    cluster_wait();  // begin_tile() arrived
    const float per_share = __fdividef(1.0f, static_cast<float>(share));
    for (int i = threadIdx.x; i < quads; i += T::kConsumers) {
      const float4 sum =
          load_sum<T::kTileM>(memory.all_sums() + (i / kQuads * T::kSumRow + i % kQuads * 4) * 4);
      const int owner = static_cast<int>((static_cast<float>(i) + 0.5f) * per_share);
      const std::uint32_t to = memory.sums() + (rank * share + i - owner * share) * 16;
      if (owner == rank)
        store_shared(to, sum);
      else
        push_remote(to, memory.pushed(), owner, sum);
    }
    sync();
    barrier_wait(memory.pushed(), 0);
    for (int i = threadIdx.x; i < mine; i += T::kConsumers) {
      float4 sum = load_shared_floats(memory.sums() + i * 16);
#pragma unroll 4
      for (int part = 1; part < parts; ++part)
        sum = sum + load_shared_floats(memory.sums() + (part * share + i) * 16);
      const int quad = rank * share + i, n = n0 + quad % kQuads * 4;
      if (n < args.n) write(m0 + quad / kQuads, n, sum);
    }
  }

  __device__ __forceinline__ void finish_tile(int tile) const {
    const Partition& p = args.partition;
    const auto [m0, n0] = TilePlace<T>{p, tile};
    const int rows = min(T::kTileM, args.m - m0);
    if (in_cluster(tile)) {
      if constexpr (T::kPush)
        push_in_cluster(m0, n0, rows);
      else
        pull_in_cluster(m0, n0, rows);
      return;
    }
    const int first = p.first_block(tile), last = p.last_block(tile);
    float* const slot = slot_of(blockIdx.x, tile);
#pragma unroll
    for (int part_idx = 0; part_idx < T::kParts; ++part_idx) {
      const int first_row = part_idx * T::kPartRows, rows_here = min(T::kPartRows, rows - first_row);
      if (rows_here <= 0) break;
      stage_sums<T::kPartRows>(part_idx, memory.sums());
      for (int i = threadIdx.x; i < rows_here * kQuads; i += T::kConsumers) {
        const int row = i / kQuads, n = i % kQuads * 4;
        if (n0 + n >= args.n) continue;
        const float4 sum = load_sum<T::kPartRows>(memory.sums() + (row * T::kSumRow + n) * 4);
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
    constexpr int kEach = (T::kTileM * kQuads + T::kConsumers - 1) / T::kConsumers;
    constexpr int kAtOnce = kEach < 4 ? kEach : 4;
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
};

}  // namespace mpk
