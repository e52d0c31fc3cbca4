#pragma once
// The sums of a block's tile, once they are summed: accumulators to shared memory, then added up over the
// blocks that share the tile, scaled, rounded and written.

#include <cstdint>

#include "kernels/device/cluster.cuh"
#include "kernels/device/cp_async.cuh"
#include "kernels/device/decode.cuh"
#include "kernels/device/decode8.cuh"
#include "kernels/device/mbarrier.cuh"
#include "kernels/wgmma/stage_copier.cuh"

namespace mpk {

__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

template <class T>
struct WgmmaSums {
  const WgmmaArgs& args;
  const WgmmaMemory<T> memory;
  const int lane = threadIdx.x % kWarpSize;
  // Through a shuffle, so that the compiler knows that all lanes agree.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x / kWarpSize), 0);
  const int warpgroup = warp / 4, tile_of_warp = warp % 4;
  const int first_fragment = T::kShareStages ? 0 : warpgroup * T::kFragments;

  static constexpr int kValues = T::kTileM / 2;  ///< of one thread and fragment
  float acc[T::kFragments][kValues];

  __device__ __forceinline__ bool grouped() const { return T::kGroupShift >= 0 || args.grouped; }
  __device__ __forceinline__ int group_shift() const {
    return T::kGroupShift >= 0 ? T::kGroupShift : args.group_shift;
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (auto& fragment : acc)
#pragma unroll
      for (float& value : fragment) value = 0.0f;
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
    if constexpr (is_fp4(T::kWeight) && T::kActivationBytes == 2) {
      const float global =
          (T::kWeight == Weight::nvfp4 ? args.global_scale : 1.0f) * kLeftOut<T::kWeight, T::kFloat>;
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
};

}  // namespace mpk
