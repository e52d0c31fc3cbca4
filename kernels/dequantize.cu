#include "gpu/check.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/device/decode.cuh"
#include "kernels/device/fragment.cuh"

namespace mpk {
namespace {

constexpr int kWarps = 4;  // of a block, each with a 16 x 64 tile of its own

struct DequantizeArgs {
  const std::uint32_t* words;
  const void* scales;
  const std::uint32_t* zeros;
  float global_scale;
  std::uint16_t* out;
  int n, rows_per_group, num_tiles;
  bool grouped;
};

template <Weight kWeight, Float kFloat>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    dequantize_kernel(const __grid_constant__ DequantizeArgs args) {
  constexpr int kPadding = 8;  // halves: rows of 9 x 16 bytes keep the 16-byte reads free of bank conflicts
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
  __syncwarp();
  constexpr int kRowChunks = kTileN / 8;
#pragma unroll
  for (int i = lane; i < kTileK * kRowChunks; i += kWarpSize) {
    const int k = i / kRowChunks, column = i % kRowChunks * 8;
    *reinterpret_cast<uint4*>(args.out + static_cast<std::int64_t>(k0 + k) * args.n + n0 + column) =
        *reinterpret_cast<const uint4*>(&tiles[warp][k][column]);
  }
}

template <Weight kWeight>
auto kernel_for(Float f) {
  return f == Float::f16 ? dequantize_kernel<kWeight, Float::f16> : dequantize_kernel<kWeight, Float::bf16>;
}
auto kernel_for(const LayerShape& layer) {
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
  if (layer.activations8)
    throw Error{ErrorKind::unsupported, "weights for 8-bit activations have no decoder but the GEMM's"};
  const DequantizeArgs args{
      .words = buffers.words,
      .scales = buffers.scales,
      .zeros = buffers.zero_points,
      .global_scale = buffers.global_scale,
      .out = out,
      .n = static_cast<int>(layer.n.value),
      .rows_per_group = static_cast<int>(layer.grouped() ? layer.group_size->value : layer.k.value),
      .num_tiles = static_cast<int>(layer.k.value / kTileK * (layer.n.value / kTileN)),
      .grouped = layer.grouped(),
  };
  kernel_for(layer)<<<(args.num_tiles + kWarps - 1) / kWarps, kWarps * kWarpSize, 0, stream>>>(args);
  MPK_CUDA(cudaGetLastError());
}

}  // namespace mpk
