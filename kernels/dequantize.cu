#include "gpu/check.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/device/decode.cuh"
#include "kernels/device/decode8.cuh"
#include "kernels/device/fragment.cuh"

namespace mpk {
namespace {

constexpr int kWarps = 4;  // of a block, each with a tile of its own
// Rows of the tiles are longer than they need to be, which keeps the 16-byte reads free of bank conflicts.
constexpr int kPadding = 8;

struct DequantizeArgs {
  const std::uint32_t* words;
  const void* scales;
  const std::uint32_t* zeros;
  float global_scale;
  std::uint16_t* out;
  int n, rows_per_group, num_tiles;
  bool grouped;
};

/// A warp's tile, row by row.
template <int kColumns, int kRows>
__device__ __forceinline__ void write_tile(const std::uint16_t (&tile)[kRows][kColumns + kPadding],
                                           const DequantizeArgs& args, int k0, int n0, int lane) {
  constexpr int kRowChunks = kColumns / 8;
  __syncwarp();
#pragma unroll
  for (int i = lane; i < kRows * kRowChunks; i += kWarpSize) {
    const int k = i / kRowChunks, column = i % kRowChunks * 8;
    *reinterpret_cast<uint4*>(args.out + static_cast<std::int64_t>(k0 + k) * args.n + n0 + column) =
        *reinterpret_cast<const uint4*>(&tile[k][column]);
  }
}

template <Weight kWeight, Float kFloat>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    dequantize_kernel(const __grid_constant__ DequantizeArgs args) {
  constexpr int kWords = bits_of(kWeight);  // of a lane, in a 16 x 64 tile
  __shared__ alignas(16) std::uint16_t tiles[kWarps][kTileK][kTileN + kPadding];
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int tile = blockIdx.x * kWarps + warp;
  if (tile >= args.num_tiles) return;
  const int tiles_n = args.n / kTileN, k0 = tile / tiles_n * kTileK, n0 = tile % tiles_n * kTileN;
  const std::int64_t row = k0 / args.rows_per_group;  // of the scales

  std::uint32_t words[kWords];
#pragma unroll
  for (int i = 0; i < kWords; ++i)
    words[i] = args.words[(static_cast<std::int64_t>(tile) * kWarpSize + lane) * kWords + i];

  // Scales of columns 8 b + lane / 4, zero points of the same.
  std::uint32_t pairs[4] = {}, zeros[4] = {};
  if constexpr (scale_bytes(kWeight) == 1) {
    const auto* at =
        static_cast<const std::uint8_t*>(args.scales) + row * args.n + n0 + grouped_scale_position(lane, 0);
#pragma unroll
    for (int j = 0; j < 4; j += 2)
      decode_scales<kWeight, kFloat>(reinterpret_cast<const std::uint32_t*>(at)[j / 2], pairs[j],
                                     pairs[j + 1]);
  } else {
    const auto* at = static_cast<const std::uint16_t*>(args.scales) + row * args.n + n0;
    const auto position = [&](int b) {
      return args.grouped ? grouped_scale_position(lane, b)
                          : single_scale_position(kMmaN * b + lane_place(lane).row);
    };
#pragma unroll
    for (int j = 0; j < 4; ++j)
      pairs[j] = at[position(2 * j)] | static_cast<std::uint32_t>(at[position(2 * j + 1)]) << 16;
  }
  if constexpr (zero_bits(kWeight) > 0) {
    constexpr int kLaneWords = zero_bits(kWeight) / 4;  // of eight columns
    const std::uint32_t* at =
        args.zeros + row * (args.n * zero_bits(kWeight) / 32) + (n0 / 8 + lane_place(lane).row) * kLaneWords;
#pragma unroll
    for (int j = 0; j < 4; ++j) zeros[j] = kLaneWords == 1 ? decode_zeros<kFloat>(*at, j) : at[j];
  }

#pragma unroll
  for (int j = 0; j < 4; ++j) {
    std::uint32_t fragment[4];
    decode<kWeight, kFloat>(words, j, fragment, zeros[j]);
    const float2 scale = to_floats<kFloat>(pairs[j]);
    // In an order in which nothing leaves the range of a float.
    const float before = kWeight == Weight::nvfp4 ? 1.0f : kLeftOut<kWeight, kFloat>;
    const float after = kWeight == Weight::nvfp4 ? args.global_scale * kLeftOut<kWeight, kFloat> : 1.0f;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const float2 exact = to_floats<kFloat>(fragment[r]);
      const float s = r % 2 ? scale.y : scale.x;
      const std::uint32_t out = round_to<kFloat>(exact.x * before * s * after, exact.y * before * s * after);
      const int column = 16 * j + 8 * (r % 2) + b_element(lane, 0, 0).col, k = b_element(lane, r / 2, 0).row;
      tiles[warp][k][column] = static_cast<std::uint16_t>(out);
      tiles[warp][k + 1][column] = static_cast<std::uint16_t>(out >> 16);
    }
  }
  write_tile<kTileN>(tiles[warp], args, k0, n0, lane);
}

template <Activation8 kActivations>
__device__ __forceinline__ float byte_value(std::uint32_t byte) {
  if constexpr (kActivations == Activation8::int8) return static_cast<float>(static_cast<std::int8_t>(byte));
  // Sign, exponent and mantissa to where float32 has them; 2^120 is the difference of the biases.
  return __uint_as_float((byte & 0x80u) << 24 | (byte & 0x7fu) << 20) * 0x1p120f;
}

/// Of layers for 8-bit activations: 32 x 32 tiles.
template <Activation8 kActivations, Weight kWeight, Float kFloat>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    dequantize8_kernel(const __grid_constant__ DequantizeArgs args) {
  constexpr int kWords = bits_of(kWeight);  // of a lane, in a 32 x 32 tile
  __shared__ alignas(16) std::uint16_t tiles[kWarps][kTileA8][kTileA8 + kPadding];
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int tile = blockIdx.x * kWarps + warp;
  if (tile >= args.num_tiles) return;
  const int tiles_n = args.n / kTileA8, k0 = tile / tiles_n * kTileA8, n0 = tile % tiles_n * kTileA8;
  const std::int64_t row = k0 / args.rows_per_group;  // of the scales

  std::uint32_t words[kWords];
#pragma unroll
  for (int i = 0; i < kWords; ++i)
    words[i] = args.words[(static_cast<std::int64_t>(tile) * kWarpSize + lane) * kWords + i];
  std::uint32_t zeros = 0;
  if constexpr (kWeight == Weight::u4)
    zeros = args.zeros[row * (args.n / 8) + n0 / kTileN * 8 + lane_place(lane).row];

#pragma unroll
  for (int block = 0; block < kBlocksPerTileA8; ++block) {
    std::uint32_t fragment[2];
    decode8<kWeight, kActivations>(words, block, fragment, decode_zero8(zeros, n0 % kTileN / kMmaN + block));
    const int column = kMmaN * block + lane_place(lane).row;
    const std::int64_t at = row * args.n + n0 + single_scale_position(column);
    float scale;
    if constexpr (scale_bytes(kWeight) == 1)
      scale = __uint_as_float(decode_e8m0(static_cast<const std::uint8_t*>(args.scales)[at]));
    else
      scale = to_floats<kFloat>(static_cast<const std::uint16_t*>(args.scales)[at]).x;
    scale *= 1.0f / kDecoded8<kWeight, kActivations>;
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float exact = byte_value<kActivations>(fragment[r] >> 8 * e & 0xffu);
        tiles[warp][b_element8(lane, r, e).row][column] =
            static_cast<std::uint16_t>(round_to<kFloat>(exact * scale, 0.0f));
      }
  }
  write_tile<kTileA8>(tiles[warp], args, k0, n0, lane);
}

template <Weight kWeight>
auto kernel_for(Float f) {
  return f == Float::f16 ? dequantize_kernel<kWeight, Float::f16> : dequantize_kernel<kWeight, Float::bf16>;
}
template <Activation8 kActivations, Weight kWeight>
auto kernel8_for(Float f) {
  return f == Float::f16 ? dequantize8_kernel<kActivations, kWeight, Float::f16>
                         : dequantize8_kernel<kActivations, kWeight, Float::bf16>;
}
auto kernel_for(const LayerShape& layer) {
  constexpr Activation8 kInt8 = Activation8::int8, kFp8 = Activation8::e4m3;
  if (layer.activations8) {
    const bool int8 = layer.activations8 == kInt8;
    if (layer.weight == Weight::u8b128) return kernel8_for<kInt8, Weight::u8b128>(layer.activations);
    if (layer.weight == Weight::mxfp4) return kernel8_for<kFp8, Weight::mxfp4>(layer.activations);
    if (layer.weight == Weight::u4)
      return int8 ? kernel8_for<kInt8, Weight::u4>(layer.activations)
                  : kernel8_for<kFp8, Weight::u4>(layer.activations);
    return int8 ? kernel8_for<kInt8, Weight::u4b8>(layer.activations)
                : kernel8_for<kFp8, Weight::u4b8>(layer.activations);
  }
  switch (layer.weight) {
    case Weight::u4:
      return kernel_for<Weight::u4>(layer.activations);
    case Weight::u8b128:
      return kernel_for<Weight::u8b128>(layer.activations);
    case Weight::e4m3:
      return kernel_for<Weight::e4m3>(layer.activations);
    case Weight::nvfp4:
      return kernel_for<Weight::nvfp4>(layer.activations);
    case Weight::mxfp4:
      return kernel_for<Weight::mxfp4>(layer.activations);
    case Weight::u4_float_zeros:
      return kernel_for<Weight::u4_float_zeros>(layer.activations);
    case Weight::u4b8:
      break;
  }
  return kernel_for<Weight::u4b8>(layer.activations);
}

}  // namespace

void dequantize(const LayerShape& layer, const GemmBuffers& buffers, std::uint16_t* out, GpuStream stream) {
  require_gemm(layer);
  const DequantizeArgs args{
      .words = buffers.words,
      .scales = buffers.scales,
      .zeros = buffers.zero_points,
      .global_scale = buffers.global_scale,
      .out = out,
      .n = static_cast<int>(layer.n.value),
      .rows_per_group = static_cast<int>(layer.grouped() ? layer.group_size->value : layer.k.value),
      .num_tiles = static_cast<int>(layer.activations8 ? layer.k.value / kTileA8 * (layer.n.value / kTileA8)
                                                       : layer.k.value / kTileK * (layer.n.value / kTileN)),
      .grouped = layer.grouped(),
  };
  kernel_for(layer)<<<(args.num_tiles + kWarps - 1) / kWarps, kWarps * kWarpSize, 0, stream>>>(args);
  MPK_CUDA(cudaGetLastError());
}

}  // namespace mpk
