#pragma once
// One thread block of the GEMM. It walks its stripe of the work (partition.hpp) with a ring of k-stages in
// shared memory that keeps filling across tile borders: while one stage is multiplied, the next kStages - 1
// are on their way.

#include <cstddef>
#include <cstdint>

#include "kernels/device/cp_async.cuh"
#include "kernels/device/decode.cuh"
#include "kernels/device/fragment.cuh"
#include "kernels/device/mma.cuh"
#include "kernels/device/swizzle.cuh"
#include "kernels/mma_sync/traits.cuh"
#include "kernels/partition.hpp"

namespace mpk {

struct GemmArgs {
  const std::uint16_t* activations;  // (m, k)
  const uint4* words;
  const std::byte* scales;    // (groups, n), permuted
  const std::byte* zeros;     // (groups, n / 8) words
  const std::uint16_t* bias;  // (n), permuted like one scale per column, or null
  float global_scale;
  std::uint16_t* out;  // (m, n)
  int* counters;       // one per tile: how many of its blocks have left their partial sums
  float4* partials;    // partition.slots() times kSlotChunks
  int m, n, k;
  int weight_tiles, k_steps;  // n / 64, k / 16
  int groups, group_shift;    // k-step s belongs to group s >> group_shift
  bool grouped;
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

/// Global memory -> ring, stage after stage of a block's stripe. What lies outside the matrices arrives as
/// zeros: a zero activation times the finite weight that zeros decode to adds nothing, so that nobody has to
/// ask about edges again.
template <class T>
struct StageLoader {
  static constexpr int kRowsPerRound = T::kThreads / T::kActivationRow;
  static constexpr int kStepsPerRound = T::kThreads / T::kWeightRow;
  static_assert(kRowsPerRound * T::kActivationRow == T::kThreads && kRowsPerRound % 8 == 0);
  static_assert(kStepsPerRound * T::kWeightRow == T::kThreads);

  const GemmArgs& args;
  const std::uint32_t ring;
  const unsigned thread = threadIdx.x;  // unsigned: what is derived from it by / and % costs one instruction
  Cursor at;
  int left;
  const std::uint16_t* activations;  // what this thread copies first of the next stage
  const uint4* words;
  bool columns_inside;

  __device__ __forceinline__ StageLoader(const GemmArgs& a, std::uint32_t ring_address, int begin, int end)
      : args{a}, ring{ring_address}, at{a.partition, begin}, left{end - begin} {
    aim();
  }
  __device__ __forceinline__ int row() const { return at.tile_m * T::kTile.m + thread / T::kActivationRow; }
  __device__ __forceinline__ int column() const {
    return at.stage * T::kTile.k + thread % T::kActivationRow * 8;
  }
  __device__ __forceinline__ int step() const { return at.stage * T::kSteps + thread / T::kWeightRow; }
  __device__ __forceinline__ int row_chunks() const { return args.weight_tiles * T::kTileChunks; }

  __device__ __forceinline__ void aim() {
    const int chunk = at.tile_n * T::kWeightRow + thread % T::kWeightRow;
    columns_inside = chunk < row_chunks();
    activations = args.activations + static_cast<std::int64_t>(row()) * args.k + column();
    words = args.words + static_cast<std::int64_t>(step()) * row_chunks() + chunk;
  }

  /// Starts copying the next stage, if there is one. One group per call in any case: they count stages.
  __device__ __forceinline__ void next(int slot) {
    if (left > 0) {
      copy(ring + slot * (T::kStageChunks * kChunkBytes));
      --left;
      activations += T::kTile.k;
      words += static_cast<std::int64_t>(T::kSteps) * row_chunks();
      if (++at.stage == args.partition.stages_per_tile) {
        at.next_tile(args.partition);
        aim();
      }
    }
    cp_async_commit();
  }

  __device__ __forceinline__ void copy(std::uint32_t stage) const {
    const std::uint32_t to_activations =
        stage + activation_chunk<T::kActivationRow>(thread / T::kActivationRow, thread % T::kActivationRow) *
                    kChunkBytes;
#pragma unroll
    for (int round = 0; round < T::kActivationChunks / T::kThreads; ++round) {
      const bool inside = column() < args.k && row() + round * kRowsPerRound < args.m;
      const std::uint16_t* from = activations + static_cast<std::int64_t>(round * kRowsPerRound) * args.k;
      cp_async(to_activations + round * T::kThreads * kChunkBytes, inside ? from : args.activations, inside);
    }
    const std::uint32_t to_words = stage + (T::kWeightsAt + weight_chunk<T::kBits>(thread)) * kChunkBytes;
#pragma unroll
    for (int round = 0; round < T::kWeightChunks / T::kThreads; ++round) {
      const bool inside = columns_inside && step() + round * kStepsPerRound < args.k_steps;
      const uint4* from = words + static_cast<std::int64_t>(round * kStepsPerRound) * row_chunks();
      cp_async(to_words + round * T::kThreads * kChunkBytes, inside ? from : args.words, inside);
    }
    if (args.grouped)
      copy_groups<T::kScaleRow, T::kScaleChunks>(stage + T::kScalesAt * kChunkBytes, args.scales,
                                                 args.n * T::kScaleSize, thread);
    if constexpr (T::kZeros)
      copy_groups<T::kZeroRow, T::kZeroChunks>(stage + T::kZerosAt * kChunkBytes, args.zeros, args.n / 2,
                                               thread - T::kScaleChunks);
  }

  /// The tile's columns of the groups that the stage touches, of a matrix with a row of `row_bytes` a group.
  /// `copier`, below kChunks, copies one of kRowChunks chunks a row.
  template <int kRowChunks, int kChunks>
  __device__ __forceinline__ void copy_groups(std::uint32_t to, const std::byte* matrix, int row_bytes,
                                              unsigned copier) const {
    const int first_step = at.stage * T::kSteps, last_step = first_step + T::kSteps - 1;
    const int group = (first_step >> args.group_shift) + copier / kRowChunks;
    if (copier >= kChunks || group > last_step >> args.group_shift) return;
    const int column = (at.tile_n * kRowChunks + copier % kRowChunks) * kChunkBytes;
    const bool inside = column < row_bytes && group < args.groups;
    const std::byte* from = matrix + static_cast<std::int64_t>(group) * row_bytes + column;
    cp_async(to + copier * kChunkBytes, inside ? from : matrix, inside);
  }
};

/// Ring -> accumulators -> global memory.
template <class T>
struct GemmBlock {
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

  __device__ __forceinline__ GemmBlock(const GemmArgs& a, uint4* memory) : args{a}, smem{memory} {}

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (auto& rows : acc)
#pragma unroll
      for (auto& block : rows)
#pragma unroll
        for (float& value : block) value = 0.0f;
  }

  __device__ __forceinline__ void multiply_stage(std::uint32_t stage, int first_step) {
    const RowCol a_row = a_row_of_lane(lane);
    const int first_row = warp_m * T::kBlocksM * kMmaM + a_row.row;
    const std::uint32_t weights =
        stage + (T::kWeightsAt + warp_k * T::kWeightRow + warp_n * T::kTileChunks) * kChunkBytes;
    const std::uint32_t scales_at = stage + T::kScalesAt * kChunkBytes +
                                    (warp_n * kTileN + grouped_scale_position(lane, 0)) * T::kScaleSize;
    const std::uint32_t zeros_at =
        stage + T::kZerosAt * kChunkBytes + warp_n * (kTileN / 2) + lane_place(lane).row * 4;
    constexpr float kOne = kUnscaled<T::kWeight, T::kFloat>;
    std::uint32_t scales[4], zeros = 0;  // of columns 16 j + lane / 4 and 8 more
#pragma unroll
    for (std::uint32_t& pair : scales) pair = round_to<T::kFloat>(kOne, kOne);
#pragma unroll
    for (int i = 0; i < T::kStepsPerWarp; ++i) {
      const int step = i * T::kWarpsK + warp_k;
      std::uint32_t words[T::kBits];
#pragma unroll
      for (int c = 0; c < T::kBits / 4; ++c)
        set(words + 4 * c, load_shared(weights + (i * T::kWarpsK * T::kWeightRow +
                                                  weight_chunk<T::kBits>(lane * (T::kBits / 4) + c)) *
                                                     kChunkBytes));
      const int group = ((first_step + step) >> args.group_shift) - (first_step >> args.group_shift);
      if (args.grouped) load_scales(scales_at + group * (T::kScaleRow * kChunkBytes), scales);
      if constexpr (T::kZeros) zeros = load_shared_word(zeros_at + group * (T::kZeroRow * kChunkBytes));
      FragmentA a[T::kBlocksM];
#pragma unroll
      for (int block = 0; block < T::kBlocksM; ++block)
        a[block] = ldmatrix_x4(
            stage + activation_chunk<T::kActivationRow>(first_row + block * kMmaM, 2 * step + a_row.col) *
                        kChunkBytes);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        std::uint32_t weight[4];
        if constexpr (T::kZeros) {
          const std::uint32_t zero = decode_zeros<T::kFloat>(zeros, j);
          decode<T::kWeight, T::kFloat>(words, j, weight, broadcast<0>(zero), broadcast<1>(zero));
        } else {
          decode<T::kWeight, T::kFloat>(words, j, weight);
        }
        scale<T::kFloat>(weight, broadcast<0>(scales[j]), broadcast<1>(scales[j]));
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const FragmentB b{{weight[half], weight[2 + half]}};
#pragma unroll
          for (int block = 0; block < T::kBlocksM; ++block)
            mma<T::kFloat>(acc[block][2 * j + half], a[block], b);
        }
      }
    }
  }
  static __device__ __forceinline__ void set(std::uint32_t* words, uint4 v) {
    words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
  }
  static __device__ __forceinline__ void load_scales(std::uint32_t from, std::uint32_t (&scales)[4]) {
    if constexpr (T::kScaleSize == 1) {
      const uint2 bytes = load_shared2(from);
      decode_scales<T::kWeight, T::kFloat>(bytes.x, scales[0], scales[1]);
      decode_scales<T::kWeight, T::kFloat>(bytes.y, scales[2], scales[3]);
    } else {
      set(scales, load_shared(from));
    }
  }

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
    if constexpr (!is_fp4(T::kWeight))
      if (!args.grouped) {
        constexpr float kApplied = 1.0f / kUnscaled<T::kWeight, T::kFloat>;
        const float2 scale = two_columns(reinterpret_cast<const std::uint16_t*>(args.scales) + columns);
        const float x = scale.x * kApplied, y = scale.y * kApplied;
        sums.x *= x, sums.y *= y, sums.z *= x, sums.w *= y;
      }
    if constexpr (T::kWeight == Weight::nvfp4) {
      const float global = args.global_scale * (1.0f / kGlobalExcess<T::kWeight, T::kFloat>);
      sums.x *= global, sums.y *= global, sums.z *= global, sums.w *= global;
    }
    if (args.bias) {
      const float2 bias = two_columns(args.bias + columns);
      // Not fused with the products in front of it: these round, too.
      sums = {__fadd_rn(sums.x, bias.x), __fadd_rn(sums.y, bias.y), __fadd_rn(sums.z, bias.x),
              __fadd_rn(sums.w, bias.y)};
    }
    const RowCol place = c_element(of_lane, 0);
    const int m = at.tile_m * T::kTile.m + (of_warp / T::kWarpsN * T::kBlocksM + rows) * kMmaM + place.row;
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

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocksPerSm)
    gemm_kernel(const __grid_constant__ GemmArgs args) {
  extern __shared__ uint4 smem[];
  const Partition& p = args.partition;
  const int begin = p.begin(blockIdx.x), end = p.end(blockIdx.x);
  const std::uint32_t ring = shared_address(smem);
  StageLoader<T> load{args, ring, begin, end};
  GemmBlock<T> block{args, smem};
#pragma unroll 1
  for (int slot = 0; slot < T::kStages - 1; ++slot) load.next(slot);

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
      load.next(slot == 0 ? T::kStages - 1 : slot - 1);
      block.multiply_stage(ring + slot * (T::kStageChunks * kChunkBytes), at.stage * T::kSteps);
      slot = slot + 1 == T::kStages ? 0 : slot + 1;
    }
    block.finish_tile(at);
    at.next_tile(p);
  }
}

}  // namespace mpk
