#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "gpu/check.hpp"
#include "kernels/family.hpp"
#include "kernels/mma_sync/variant.cuh"

namespace mpk {
namespace {

// Among the rows that fit a layer, the first with at least M rows is taken, or else the last. Every kind has
// two; the common ones have two more, so that the rest of a tile is never much of the work.
// clang-format off
template <Weight kWeight, Float kFloat>
constexpr auto variants_of() {
  if constexpr (bits_of(kWeight) == 4)
    //                                          tile m    n    k   warps along m, stages, blocks per SM
    return std::array{
        MmaSyncVariant::of<GemmTraits<kWeight, kFloat,     16, 128, 256,  1, 3, 2>>(),
        MmaSyncVariant::of<GemmTraits<kWeight, kFloat,     64, 256,  64,  1, 4, 1>>()};
  else
    return std::array{
        MmaSyncVariant::of<GemmTraits<kWeight, kFloat,     16, 128, 128,  1, 4, 2>>(),
        MmaSyncVariant::of<GemmTraits<kWeight, kFloat,     64, 256,  64,  1, 3, 1>>()};
}
template <Weight kWeight, Float kFloat>
constexpr auto more_variants_of() {
  constexpr auto kTwo = variants_of<kWeight, kFloat>();
  return std::array{
      kTwo[0],
      MmaSyncVariant::of<GemmTraits<kWeight, kFloat,       32, 128, 128,  1, bits_of(kWeight) == 4 ? 4 : 3, 2>>(),
      kTwo[1],
      MmaSyncVariant::of<GemmTraits<kWeight, kFloat,      128, 256,  64,  2, 3, 1>>()};
}
// clang-format on
constexpr auto kVariants16 =
    join(more_variants_of<Weight::u4b8, Float::f16>(), variants_of<Weight::u4b8, Float::bf16>(),
         variants_of<Weight::u4, Float::f16>(), variants_of<Weight::u4, Float::bf16>(),
         more_variants_of<Weight::u8b128, Float::f16>(), variants_of<Weight::u8b128, Float::bf16>(),
         variants_of<Weight::e4m3, Float::f16>(), variants_of<Weight::e4m3, Float::bf16>(),
         variants_of<Weight::nvfp4, Float::f16>(), variants_of<Weight::nvfp4, Float::bf16>(),
         variants_of<Weight::mxfp4, Float::bf16>(), variants_of<Weight::u4_float_zeros, Float::f16>(),
         variants_of<Weight::u4_float_zeros, Float::bf16>());

/// The whole table.
const std::vector<MmaSyncVariant>& variants() {
  static const std::vector<MmaSyncVariant> all = [] {
    std::vector<MmaSyncVariant> rows{kVariants16.begin(), kVariants16.end()};
    for (const auto more : {int8_variants(), fp8_variants()})
      rows.insert(rows.end(), more.begin(), more.end());
    return rows;
  }();
  return all;
}
const MmaSyncVariant& variant_of(const GemmPlan& plan) {
  return variants().at(static_cast<std::size_t>(plan.variant));
}

std::string refusal(const LayerShape& layer) {
  return refusal_by(variants(), layer);
}

std::string tile_text(const MmaSyncVariant& v) {
  return std::to_string(v.tile.m) + " x " + std::to_string(v.tile.n) + " x " + std::to_string(v.tile.k);
}

std::string table() {
  std::string text;
  for (const MmaSyncVariant& v : variants())
    text += std::string{"\n  mma.sync ("} + (v.activations8 == Activation8::e4m3 ? "8.9" : "8.0") + " on) " +
            name_of(v.weight) + " " + activations_text(v.activations8, v.activations) + "   tile (m, n, k) " +
            tile_text(v);
  return text;
}

std::string tile(const GemmPlan& plan) {
  return tile_text(variant_of(plan));
}

std::vector<GemmPlan> plans(const GemmPlan& asked, const GpuTraits& gpu) {
  GemmPlan plan = asked;
  const LayerShape& layer = plan.layer;
  const M m = plan.m;
  for (int i = 0; i < static_cast<int>(variants().size()); ++i) {
    const MmaSyncVariant& row = variants()[static_cast<std::size_t>(i)];
    if (!takes(row, layer)) continue;
    plan.variant = i;
    if (row.tile.m >= m.value) break;
  }
  const MmaSyncVariant& v = variant_of(plan);

  const auto tiles = [](std::int64_t extent, int tile) { return (extent + tile - 1) / tile; };
  const std::int64_t tiles_m = tiles(m.value, v.tile.m), tiles_n = tiles(layer.n.value, v.tile.n);
  const std::int64_t stages = tiles(layer.k.value, v.tile.k);
  // The device counts units and rows in 32 bits.
  constexpr std::int64_t kMax = std::numeric_limits<int>::max() / 2;
  if (m.value > kMax || tiles_m > kMax / (tiles_n * stages)) return {};

  plan.partition = Partition{static_cast<int>(tiles_m), static_cast<int>(tiles_n), static_cast<int>(stages),
                             std::max(1, gpu.num_sms) * v.blocks_per_sm};
  add_shared_tiles(plan, v.slot_bytes);
  return {plan};
}

void launch(const GemmPlan& plan, const GemmBuffers& buffers, GpuStream stream) {
  const MmaSyncVariant& v = variant_of(plan);
  const LayerShape& layer = plan.layer;
  // Without groups all steps are in the first of them.
  const int group_shift =
      layer.grouped() ? std::countr_zero(static_cast<unsigned>(layer.group_size->value / v.step_k)) : 30;
  const GemmArgs args{
      .activations = static_cast<const std::byte*>(buffers.activations),
      .row_scales = buffers.row_scales,
      .words = reinterpret_cast<const uint4*>(buffers.words),
      .scales = static_cast<const std::byte*>(buffers.scales),
      .zeros = reinterpret_cast<const std::byte*>(buffers.zero_points),
      .bias = buffers.bias,
      .global_scale = buffers.global_scale,
      .out = buffers.out,
      .counters = static_cast<int*>(buffers.workspace),
      .partials = reinterpret_cast<float4*>(static_cast<std::byte*>(buffers.workspace) + plan.counter_bytes),
      .m = static_cast<int>(plan.m.value),
      .n = static_cast<int>(layer.n.value),
      .k = static_cast<int>(layer.k.value),
      .weight_tiles = static_cast<int>(layer.n.value / kTileN),
      .k_steps = static_cast<int>(layer.k.value / v.step_k),
      .groups = layer.groups(),
      .group_shift = group_shift,
      .grouped = layer.grouped(),
      .partition = plan.partition,
  };
  MPK_CUDA(cudaFuncSetAttribute(v.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, v.smem_bytes));
  v.kernel<<<static_cast<unsigned>(plan.partition.blocks), v.threads, v.smem_bytes, stream>>>(args);
  MPK_CUDA(cudaGetLastError());
}

bool runs_on(int capability) {
  return capability >= 80;
}

}  // namespace

const GemmFamilyRow kMmaSyncFamily{GemmFamily::mma_sync, runs_on, refusal, plans, launch, table, tile};

std::string gemm_code_missing() {
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, kVariants16.front().kernel);
  if (status == cudaSuccess) return {};
  (void)cudaGetLastError();
  return std::string{"this build has no code for it ("} + cudaGetErrorString(status) + ")";
}

}  // namespace mpk
