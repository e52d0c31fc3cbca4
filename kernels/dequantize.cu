#include <cuda_fp16.h>

#include "kernels/dequantize.hpp"
#include "kernels/device/dequant.cuh"
#include "kernels/device/fragment.cuh"
#include "kernels/runtime/check.hpp"

namespace mpk {
namespace {

constexpr int kWarps = 4;  // of a block, each with a 16 x 64 tile of its own

struct DequantizeArgs {
  const uint4* words;
  const __half* scales;
  __half* out;
  int n, rows_per_group, num_tiles;
};

template <int kBits, bool kGrouped>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    dequantize_kernel(const __grid_constant__ DequantizeArgs args) {
  constexpr int kPadding = 8;  // halves: rows of 9 x 16 bytes keep the 16-byte reads free of bank conflicts
  __shared__ alignas(16) __half tiles[kWarps][kTileK][kTileN + kPadding];
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int tile = blockIdx.x * kWarps + warp;
  if (tile >= args.num_tiles) return;
  const int tiles_n = args.n / kTileN, k0 = tile / tiles_n * kTileK, n0 = tile % tiles_n * kTileN;

  TileWords<kBits> words;
  const uint4* from = args.words + (static_cast<std::int64_t>(tile) * kWarpSize + lane) * words.kChunks;
#pragma unroll
  for (int c = 0; c < words.kChunks; ++c) words.chunk[c] = from[c];

  const __half* scales = args.scales + static_cast<std::int64_t>(k0 / args.rows_per_group) * args.n + n0;
#pragma unroll
  for (int pair = 0; pair < kBlocksPerTile / 2; ++pair) {
    FragmentB b[2];
    dequant(words, pair, b);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int block = 2 * pair + half, column = kMmaN * block + b_element(lane, 0, 0).col;
      scale(b[half], scales[kGrouped ? grouped_scale_position(lane, block) : single_scale_position(column)]);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        tiles[warp][b_element(lane, r, 0).row][column] = __low2half(b[half].reg[r]);
        tiles[warp][b_element(lane, r, 1).row][column] = __high2half(b[half].reg[r]);
      }
    }
  }
  __syncwarp();
  constexpr int kRowChunks = kTileN / 8;
#pragma unroll
  for (int i = lane; i < kTileK * kRowChunks; i += kWarpSize) {
    const int row = i / kRowChunks, column = i % kRowChunks * 8;
    *reinterpret_cast<uint4*>(args.out + static_cast<std::int64_t>(k0 + row) * args.n + n0 + column) =
        *reinterpret_cast<const uint4*>(&tiles[warp][row][column]);
  }
}

}  // namespace

void dequantize(const LayerShape& layer, const std::uint32_t* words, const std::uint16_t* scales,
                std::uint16_t* out, GpuStream stream) {
  require_gemm(layer);
  const bool grouped = layer.grouped();
  const DequantizeArgs args{
      .words = reinterpret_cast<const uint4*>(words),
      .scales = reinterpret_cast<const __half*>(scales),
      .out = reinterpret_cast<__half*>(out),
      .n = static_cast<int>(layer.n.value),
      .rows_per_group = static_cast<int>(grouped ? layer.group_size->value : layer.k.value),
      .num_tiles = static_cast<int>(layer.k.value / kTileK * (layer.n.value / kTileN)),
  };
  const auto kernel = layer.type.bits == 4
                          ? (grouped ? dequantize_kernel<4, true> : dequantize_kernel<4, false>)
                          : (grouped ? dequantize_kernel<8, true> : dequantize_kernel<8, false>);
  kernel<<<(args.num_tiles + kWarps - 1) / kWarps, kWarps * kWarpSize, 0, stream>>>(args);
  MPK_CUDA(cudaGetLastError());
}

}  // namespace mpk
