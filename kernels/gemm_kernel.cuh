#pragma once
// One thread block of the GEMM. It walks its stripe of the work (partition.hpp) with a ring of k-stages in
// shared memory that keeps filling across tile borders: while stage i is multiplied, stages i+1 ..
// i+kStages-1 are on their way.

#include <cuda_fp16.h>

#include "kernels/device/cp_async.cuh"
#include "kernels/device/dequant.cuh"
#include "kernels/device/fragment.cuh"
#include "kernels/device/mma.cuh"
#include "kernels/device/swizzle.cuh"
#include "kernels/partition.hpp"
#include "kernels/traits.cuh"

namespace mpk {

struct GemmArgs {
  const __half* activations;  // (m, k)
  const uint4* words;
  const __half* scales;  // (groups, n), permuted
  __half* out;           // (m, n)
  int* counters;         // one per tile: how many of its blocks have left their partial sums
  float4* partials;      // partition.slots() times kSlotChunks
  int m, n, k;
  int weight_tiles, k_steps;  // n / 64, k / 16
  int group_shift;            // k-step s belongs to group s >> group_shift
  Partition partition;
};

/// A unit of work by its coordinates.
struct Cursor {
  int tile_m, tile_n, stage;
  __device__ Cursor(const Partition& p, int unit)
      : tile_m{unit / p.stages_per_tile % p.tiles_m},
        tile_n{unit / p.stages_per_tile / p.tiles_m},
        stage{unit % p.stages_per_tile} {}
  __device__ __forceinline__ int tile(const Partition& p) const { return tile_n * p.tiles_m + tile_m; }
  __device__ __forceinline__ void next_tile(const Partition& p) {
    stage = 0;
    if (++tile_m < p.tiles_m) return;
    tile_m = 0;
    ++tile_n;
  }
};

template <class T>
struct GemmBlock {
  const GemmArgs& args;
  uint4* const smem;
  const unsigned thread = threadIdx.x;  // unsigned: what is derived from it by / and % costs one instruction
  const int lane = thread % kWarpSize;
  const int warp =
      __shfl_sync(~0u, static_cast<int>(thread / kWarpSize), 0);  // tells the compiler: the same in all lanes
  // Warps that hold sums of the same 64 columns in the end come first: warp_k 0 is threads 0 .. kSumThreads
  // - 1.
  const int warp_n = warp % T::kWarpsN, warp_m = warp / T::kWarpsN % T::kWarpsM;
  const int warp_k = warp / (T::kWarpsN * T::kWarpsM);
  float acc[T::kBlocksM][kBlocksPerTile][4];

  __device__ __forceinline__ GemmBlock(const GemmArgs& a, uint4* memory) : args{a}, smem{memory} {}

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (auto& rows : acc)
#pragma unroll
      for (auto& block : rows)
#pragma unroll
        for (float& value : block) value = 0.0f;
  }
  __device__ __forceinline__ bool holds_sums() const {
    return T::kWarpsK == 1 || warp_k == 0;
  }
  /// The 64-column tile this warp works on, counted over all of N; N may end before the block tile does.
  __device__ __forceinline__ int weight_tile(int tile_n) const {
    return tile_n * T::kWarpsN + warp_n;
  }
  __device__ __forceinline__ bool has_columns(int tile_n) const {
    return weight_tile(tile_n) < args.weight_tiles;
  }

  // ---- global memory -> ring
  // ---------------------------------------------------------------------------------
  /// What lies outside the matrices is zero (activations) or left alone (weights and scales, which nobody
  /// reads then).
  __device__ __forceinline__ void copy_stage(const Cursor& at, int slot) const {
    const std::uint32_t stage = shared_address(smem + slot * T::kStageChunks);
    const int first_step = at.stage * T::kSteps;

#pragma unroll
    for (int round = 0; round < T::kActivationChunks / T::kThreads; ++round) {
      const unsigned i = round * T::kThreads + thread;
      const int row = i / T::kActivationRow, chunk = i % T::kActivationRow;
      const int m = at.tile_m * T::kTile.m + row, k = at.stage * T::kTile.k + 8 * chunk;
      const bool inside = m < args.m && k < args.k;
      const __half* from = args.activations + (inside ? static_cast<std::int64_t>(m) * args.k + k : 0);
      cp_async_or_zero(stage + activation_chunk<T::kActivationRow>(row, chunk) * kChunkBytes, from, inside);
    }

    const int row_chunks = args.weight_tiles * T::kTileChunks, first_chunk = at.tile_n * T::kWeightRow;
#pragma unroll
    for (int round = 0; round < T::kWeightChunks / T::kThreads; ++round) {
      const unsigned i = round * T::kThreads + thread;
      const int step = first_step + i / T::kWeightRow, chunk = first_chunk + i % T::kWeightRow;
      if (step < args.k_steps && chunk < row_chunks)
        cp_async(stage + (T::kWeightsAt + weight_chunk<T::kBits>(i)) * kChunkBytes,
                 args.words + static_cast<std::int64_t>(step) * row_chunks + chunk);
    }

    if constexpr (T::kGrouped) {
      const int first_group = first_step >> args.group_shift, groups = args.k_steps >> args.group_shift;
      const int group = first_group + thread / T::kScaleRow,
                n = at.tile_n * T::kTile.n + thread % T::kScaleRow * 8;
      const int last_step = first_step + T::kSteps - 1;
      if (group <= last_step >> args.group_shift && group < groups && n < args.n)
        cp_async(stage + (T::kScalesAt + thread) * kChunkBytes,
                 args.scales + static_cast<std::int64_t>(group) * args.n + n);
    }
  }

  // ---- ring -> accumulators
  // ----------------------------------------------------------------------------------
  __device__ __forceinline__ void multiply_stage(const Cursor& at, int slot) {
    const uint4* stage = smem + slot * T::kStageChunks;
    const std::uint32_t activations = shared_address(stage);
    const int first_step = at.stage * T::kSteps;
    if (!has_columns(at.tile_n)) return;

#pragma unroll
    for (int i = 0; i < T::kStepsPerWarp; ++i) {
      const int step = i * T::kWarpsK + warp_k;
      if (first_step + step >= args.k_steps) break;

      TileWords<T::kBits> words;
#pragma unroll
      for (int c = 0; c < words.kChunks; ++c) {
        const int chunk = step * T::kWeightRow + warp_n * T::kTileChunks + lane * words.kChunks + c;
        words.chunk[c] = stage[T::kWeightsAt + weight_chunk<T::kBits>(chunk)];
      }
      __half scales[kBlocksPerTile];
      if constexpr (T::kGrouped) {
        const int group = ((first_step + step) >> args.group_shift) - (first_step >> args.group_shift);
        const int position = warp_n * kTileN + grouped_scale_position(lane, 0);
        *reinterpret_cast<uint4*>(scales) = stage[T::kScalesAt + group * T::kScaleRow + position / 8];
      }
      FragmentA a[T::kBlocksM];
#pragma unroll
      for (int block = 0; block < T::kBlocksM; ++block) {
        const RowCol from = a_row_of_lane(lane);
        const int row = (warp_m * T::kBlocksM + block) * kMmaM + from.row, chunk = 2 * step + from.col;
        a[block] = ldmatrix_x4(activations + activation_chunk<T::kActivationRow>(row, chunk) * kChunkBytes);
      }

#pragma unroll
      for (int pair = 0; pair < kBlocksPerTile / 2; ++pair) {
        FragmentB b[2];
        dequant(words, pair, b);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if constexpr (T::kGrouped) scale(b[half], scales[2 * pair + half]);
#pragma unroll
          for (int block = 0; block < T::kBlocksM; ++block)
            mma(acc[block][2 * pair + half], a[block], b[half]);
        }
      }
    }
  }

  // ---- accumulators -> global memory
  // -------------------------------------------------------------------------
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
            exchange[block * T::kSumThreads] =
                make_float4(rows[block][0], rows[block][1], rows[block][2], rows[block][3]);
        __syncthreads();
        if (warp_k == 0)
#pragma unroll
          for (int block = 0; block < kBlocksPerTile; ++block)
            add(rows[block], exchange[block * T::kSumThreads]);
        __syncthreads();
      }
  }
  static __device__ __forceinline__ void add(float (&sum)[4], float4 value) {
    sum[0] += value.x, sum[1] += value.y, sum[2] += value.z, sum[3] += value.w;
  }
  __device__ __forceinline__ float4* slot_of(int block, int tile) const {
    return args.partials + args.partition.slot(block, tile) * static_cast<std::int64_t>(T::kSlotChunks) +
           thread;
  }

  /// For a tile that several blocks share: leaves this block's sums, true if all the others have left theirs.
  __device__ __forceinline__ bool leave_partial_sums(int tile, int num_blocks) const {
    __shared__ bool arrived_last;
    if (holds_sums()) {
      float4* slot = slot_of(blockIdx.x, tile);
#pragma unroll
      for (const auto& rows : acc)
#pragma unroll
        for (const auto& block : rows) {
          *slot = make_float4(block[0], block[1], block[2], block[3]);
          slot += T::kSumThreads;
        }
    }
    __threadfence();  // the partial sums before the count ...
    __syncthreads();
    if (thread == 0) {
      arrived_last = atomicAdd(&args.counters[tile], 1) + 1 == num_blocks;
      if (arrived_last) args.counters[tile] = 0;  // for the next launch
      __threadfence();                            // ... and the count before the other blocks' partial sums
    }
    __syncthreads();
    return arrived_last;
  }

  /// 16 rows of this warp's part of a tile.
  __device__ __forceinline__ void write_rows(const Cursor& at, int rows,
                                             const float (&sums)[kBlocksPerTile][4]) const {
    const int first_column = weight_tile(at.tile_n) * kTileN;
    const int first_row = at.tile_m * T::kTile.m + (warp_m * T::kBlocksM + rows) * kMmaM;
    __half scales[2][8];  // of this lane's columns
    if constexpr (!T::kGrouped) {
#pragma unroll
      for (int c = 0; c < 2; ++c)
        *reinterpret_cast<uint4*>(scales[c]) = __ldg(reinterpret_cast<const uint4*>(
            args.scales + first_column + single_scale_position(lane, 4 * c, 0)));
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const RowCol place = c_element(lane, 2 * half);
      const int m = first_row + place.row;
      if (m >= args.m) continue;
      __half* out = args.out + static_cast<std::int64_t>(m) * args.n + first_column + place.col;
#pragma unroll
      for (int block = 0; block < kBlocksPerTile; ++block) {
        float x = sums[block][2 * half], y = sums[block][2 * half + 1];
        if constexpr (!T::kGrouped) {
          x *= __half2float(scales[block / 4][2 * (block % 4)]);
          y *= __half2float(scales[block / 4][2 * (block % 4) + 1]);
        }
        *reinterpret_cast<__half2*>(out + block * kMmaN) = __floats2half2_rn(x, y);
      }
    }
  }

  __device__ __forceinline__ void write_own_sums(const Cursor& at) const {
#pragma unroll
    for (int rows = 0; rows < T::kBlocksM; ++rows) write_rows(at, rows, acc[rows]);
  }
  /// The sums of blocks `first` .. `last`, added in this order whoever adds them.
  __device__ __forceinline__ void write_all_sums(const Cursor& at, int tile, int first, int last) const {
#pragma unroll 1
    for (int rows = 0; rows < T::kBlocksM; ++rows) {
      float sums[kBlocksPerTile][4] = {};
#pragma unroll 1
      for (int from = first; from <= last; ++from) {
        const float4* slot = slot_of(from, tile) + rows * kBlocksPerTile * T::kSumThreads;
#pragma unroll
        for (int block = 0; block < kBlocksPerTile; ++block)
          add(sums[block], __ldcg(slot + block * T::kSumThreads));
      }
      write_rows(at, rows, sums);
    }
  }

  __device__ __forceinline__ void finish_tile(const Cursor& at) {
    const int tile = at.tile(args.partition);
    const int first = args.partition.first_block(tile), last = args.partition.last_block(tile);
    if constexpr (T::kWarpsK > 1) sum_over_warps();
    const bool writes = holds_sums() && has_columns(at.tile_n);
    if (first == last) {
      if (writes) write_own_sums(at);
    } else if (leave_partial_sums(tile, last - first + 1)) {
      if (writes) write_all_sums(at, tile, first, last);
    }
  }
};

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocksPerSm)
    gemm_kernel(const __grid_constant__ GemmArgs args) {
  extern __shared__ uint4 smem[];
  const Partition& p = args.partition;
  const int begin = p.begin(blockIdx.x), end = p.end(blockIdx.x);
  GemmBlock<T> block{args, smem};

  Cursor load{p, begin};
  int to_load = end - begin;
  const auto load_next = [&](int slot) {  // always one group per call, so that counting groups counts stages
    if (to_load > 0) {
      block.copy_stage(load, slot);
      if (++load.stage == p.stages_per_tile) load.next_tile(p);
      --to_load;
    }
    cp_async_commit();
  };
#pragma unroll 1
  for (int slot = 0; slot < T::kStages - 1; ++slot) load_next(slot);

  Cursor at{p, begin};
  int slot = 0;
#pragma unroll 1
  for (int left = end - begin; left > 0;) {
    block.clear();
    const int stop = min(p.stages_per_tile, at.stage + left);
    left -= stop - at.stage;
#pragma unroll 1
    for (; at.stage < stop; ++at.stage) {
      cp_async_wait<T::kStages - 2>();
      __syncthreads();  // this stage is there for all, and nobody still reads the one before it
      load_next(slot == 0 ? T::kStages - 1 : slot - 1);
      block.multiply_stage(at, slot);
      slot = slot + 1 == T::kStages ? 0 : slot + 1;
    }
    block.finish_tile(at);
    at.next_tile(p);
  }
}

}  // namespace mpk
