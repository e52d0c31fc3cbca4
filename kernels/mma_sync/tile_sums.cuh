#pragma once
// The sums of a block's tile, once they are summed: over the warps and the blocks that share the tile, then
// scaled, rounded and written.

#include <cstdint>

#include "kernels/device/decode.cuh"
#include "kernels/device/decode8.cuh"
#include "kernels/device/fragment.cuh"
#include "kernels/mma_sync/stage_loader.cuh"

namespace mpk {

template <class Sum, int kRows, int kBlocks>
__device__ __forceinline__ void set_to_zero(Sum (&sums)[kRows][kBlocks][4]) {
#pragma unroll
  for (auto& rows : sums)
#pragma unroll
    for (auto& block : rows)
#pragma unroll
      for (Sum& value : block) value = 0;
}

template <class T>
struct TileSums {
  const GemmArgs& args;
  uint4* const smem;
  const unsigned thread = threadIdx.x;
  const int lane = thread % kWarpSize;
  // Through a shuffle, so that the compiler knows that all lanes agree. Warps with warp_k 0 come first: they
  // are the kSumThreads that hold a tile's sums in the end.
  const int warp = __shfl_sync(~0u, static_cast<int>(thread / kWarpSize), 0);
  const int warp_n = warp % T::kWarpsN, warp_m = warp / T::kWarpsN % T::kWarpsM;
  const int warp_k = warp / (T::kWarpsN * T::kWarpsM);
  float acc[T::kBlocksM][kBlocksPerTile][4];

  __device__ __forceinline__ TileSums(const GemmArgs& a, uint4* memory) : args{a}, smem{memory} {}

  __device__ __forceinline__ void clear() { set_to_zero(acc); }

  /// Adds the warps that split k to warp_k 0, in their order.
  __device__ __forceinline__ void sum_over_warps() {
    float4* exchange =
        reinterpret_cast<float4*>(smem + T::kStages * T::kStageChunks) + thread % T::kSumThreads;
#pragma unroll
    for (auto& rows : acc)
#pragma unroll
      for (int from = 1; from < T::kWarpsK; ++from) {
        if (warp_k == from)
#pragma unroll
          for (int block = 0; block < kBlocksPerTile; ++block)
            exchange[block * T::kSumThreads] = as_float4(rows[block]);
        __syncthreads();
        if (warp_k == 0)
#pragma unroll
          for (int block = 0; block < kBlocksPerTile; ++block) {
            const float4 other = exchange[block * T::kSumThreads];
            rows[block][0] += other.x, rows[block][1] += other.y;
            rows[block][2] += other.z, rows[block][3] += other.w;
          }
        __syncthreads();
      }
  }
  static __device__ __forceinline__ float4 as_float4(const float (&v)[4]) {
    return make_float4(v[0], v[1], v[2], v[3]);
  }

  __device__ __forceinline__ float4* slot_of(int block, int tile) const {
    return args.partials + args.partition.slot(block, tile) * static_cast<std::int64_t>(T::kSlotChunks);
  }

  /// For a tile that several blocks share: leaves this block's sums, true if all the others have left theirs.
  __device__ __forceinline__ bool leave_partial_sums(int tile, int num_blocks) const {
    if (thread < T::kSumThreads) {
      float4* slot = slot_of(blockIdx.x, tile) + thread;
#pragma unroll
      for (const auto& rows : acc)
#pragma unroll
        for (const auto& block : rows) {
          *slot = as_float4(block);
          slot += T::kSumThreads;
        }
    }
    __syncthreads();
    bool arrived_last = false;
    if (thread == 0) {
      __threadfence();  // all the block's partial sums before the count ...
      arrived_last = atomicAdd(&args.counters[tile], 1) + 1 == num_blocks;
      if (arrived_last) args.counters[tile] = 0;  // for the next launch
      __threadfence();                            // ... and the count before the other blocks' partial sums
    }
    return __syncthreads_or(arrived_last);
  }

  /// The four sums of one mma block that `owner`, one of kSumThreads, holds: two columns of two rows.
  __device__ __forceinline__ void write(const Cursor& at, unsigned owner, int rows, int block,
                                        float4 sums) const {
    const int of_lane = owner % kWarpSize, of_warp = owner / kWarpSize;
    const int weight_tile = at.tile_n * T::kWarpsN + of_warp % T::kWarpsN;
    if (weight_tile >= args.weight_tiles) return;
    const int columns = weight_tile * kTileN + single_scale_position(of_lane, block, 0);
    if constexpr (T::kActivationBytes == 1) {
      constexpr float kApplied = 1.0f / kDecoded8<T::kWeight, T::kActivations8>;
      sums.x *= kApplied, sums.y *= kApplied, sums.z *= kApplied, sums.w *= kApplied;
    }
    if constexpr (!is_fp4(T::kWeight))
      if (!args.grouped) {
        constexpr float kApplied = 1.0f / kUnscaled<T::kWeight, T::kFloat>;
        const float2 scale = two_columns(reinterpret_cast<const std::uint16_t*>(args.scales) + columns);
        const float x = scale.x * kApplied, y = scale.y * kApplied;
        sums.x *= x, sums.y *= y, sums.z *= x, sums.w *= y;
      }
    if constexpr (is_fp4(T::kWeight) && T::kActivationBytes == 2) {
      const float global =
          (T::kWeight == Weight::nvfp4 ? args.global_scale : 1.0f) * kLeftOut<T::kWeight, T::kFloat>;
      sums.x *= global, sums.y *= global, sums.z *= global, sums.w *= global;
    }
    const RowCol place = c_element(of_lane, 0);
    const int m = at.tile_m * T::kTile.m + (of_warp / T::kWarpsN * T::kBlocksM + rows) * kMmaM + place.row;
    if constexpr (T::kActivationBytes == 1) {
      if (m < args.m) {
        const float scale = __ldg(args.row_scales + m);
        sums.x *= scale, sums.y *= scale;
      }
      if (m + kMmaM / 2 < args.m) {
        const float scale = __ldg(args.row_scales + m + kMmaM / 2);
        sums.z *= scale, sums.w *= scale;
      }
    }
    if (args.bias) {
      const float2 bias = two_columns(args.bias + columns);
      // Not fused with the products in front of it: these round, too.
      sums = {__fadd_rn(sums.x, bias.x), __fadd_rn(sums.y, bias.y), __fadd_rn(sums.z, bias.x),
              __fadd_rn(sums.w, bias.y)};
    }
    std::uint16_t* out =
        args.out + static_cast<std::int64_t>(m) * args.n + weight_tile * kTileN + block * kMmaN + place.col;
    if (m < args.m) *reinterpret_cast<std::uint32_t*>(out) = round_to<T::kFloat>(sums.x, sums.y);
    if (m + kMmaM / 2 < args.m)
      *reinterpret_cast<std::uint32_t*>(out + static_cast<std::int64_t>(kMmaM / 2) * args.n) =
          round_to<T::kFloat>(sums.z, sums.w);
  }
  static __device__ __forceinline__ float2 two_columns(const std::uint16_t* at) {
    return to_floats<T::kFloat>(__ldg(reinterpret_cast<const std::uint32_t*>(at)));
  }

  __device__ __forceinline__ void write_own_sums(const Cursor& at) const {
    if (thread >= T::kSumThreads) return;
#pragma unroll
    for (int rows = 0; rows < T::kBlocksM; ++rows)
#pragma unroll
      for (int block = 0; block < kBlocksPerTile; ++block)
        write(at, thread, rows, block, as_float4(acc[rows][block]));
  }
  /// The sums of blocks `first` .. `last`, in this order whoever adds them; all threads share the work.
  __device__ __forceinline__ void write_all_sums(const Cursor& at, int tile, int first, int last) const {
    constexpr int kAtOnce = T::kSlotChunks / T::kThreads < 4 ? T::kSlotChunks / T::kThreads : 4;
    static_assert(T::kSlotChunks % (kAtOnce * T::kThreads) == 0);
#pragma unroll 1
    for (unsigned start = thread; start < T::kSlotChunks; start += kAtOnce * T::kThreads) {
      float4 sums[kAtOnce] = {};
#pragma unroll(8 / kAtOnce)  // eight loads in flight
      for (int from = first; from <= last; ++from) {
        const float4* slot = slot_of(from, tile) + start;
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          const float4 part = __ldcg(slot + i * T::kThreads);
          sums[i].x += part.x, sums[i].y += part.y, sums[i].z += part.z, sums[i].w += part.w;
        }
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const unsigned chunk = start + i * T::kThreads, block = chunk / T::kSumThreads;
        write(at, chunk % T::kSumThreads, block / kBlocksPerTile, block % kBlocksPerTile, sums[i]);
      }
    }
  }

  __device__ __forceinline__ void finish_tile(const Cursor& at) {
    const int tile = at.tile(args.partition);
    const int first = args.partition.first_block(tile), last = args.partition.last_block(tile);
    if constexpr (T::kWarpsK > 1) sum_over_warps();
    if (first == last)
      write_own_sums(at);
    else if (leave_partial_sums(tile, last - first + 1))
      write_all_sums(at, tile, first, last);
  }
};

}  // namespace mpk
