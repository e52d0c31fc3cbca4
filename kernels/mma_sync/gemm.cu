#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/family.hpp"
#include "kernels/mma_sync/gemm_kernel.cuh"
#include "kernels/runtime/check.hpp"

namespace mpk {
namespace {

struct Variant {
  int bits;
  bool grouped;
  Tile tile;
  int threads, blocks_per_sm, smem_bytes, slot_bytes;
  void (*kernel)(GemmArgs);

  template <class T>
  static constexpr Variant of() {
    constexpr int kSlotBytes = T::kSlotChunks * kChunkBytes;
    return {T::kBits,        T::kGrouped,   T::kTile,   T::kThreads,
            T::kBlocksPerSm, T::kSmemBytes, kSlotBytes, gemm_kernel<T>};
  }
};
template <class... T>
constexpr std::array<Variant, sizeof...(T)> variants() {
  return {Variant::of<T>()...};
}

// Among the rows that fit a layer, the first with at least M rows is taken, or else the last.
// clang-format off
constexpr auto kVariants = variants<
    //         bits scales           tile m    n    k   warps along m, stages, blocks per SM
    GemmTraits<4, Scales::grouped,       16, 128, 256,  1, 3, 2>,
    GemmTraits<4, Scales::grouped,       32, 128, 128,  1, 4, 2>,
    GemmTraits<4, Scales::grouped,       64, 256,  64,  1, 4, 1>,
    GemmTraits<4, Scales::grouped,      128, 256,  64,  2, 3, 1>,
    GemmTraits<4, Scales::single,        16, 128, 256,  1, 3, 2>,
    GemmTraits<4, Scales::single,        32, 128, 128,  1, 4, 2>,
    GemmTraits<4, Scales::single,        64, 256,  64,  1, 4, 1>,
    GemmTraits<4, Scales::single,       128, 256,  64,  2, 3, 1>,
    GemmTraits<8, Scales::grouped,       16, 128, 128,  1, 4, 2>,
    GemmTraits<8, Scales::grouped,       32, 128, 128,  1, 3, 2>,
    GemmTraits<8, Scales::grouped,       64, 256,  64,  1, 3, 1>,
    GemmTraits<8, Scales::grouped,      128, 256,  64,  2, 3, 1>,
    GemmTraits<8, Scales::single,        16, 128, 128,  1, 4, 2>,
    GemmTraits<8, Scales::single,        32, 128, 128,  1, 3, 2>,
    GemmTraits<8, Scales::single,        64, 256,  64,  1, 3, 1>,
    GemmTraits<8, Scales::single,       128, 256,  64,  2, 3, 1>>();
// clang-format on

bool fits(const Variant& v, const LayerShape& layer) {
  return v.bits == bits_of(layer.weight) && v.grouped == layer.grouped();
}

std::string refusal(const LayerShape& layer) {
  if (std::string why = common_refusal(layer); !why.empty()) return why;
  if (layer.weight != Weight::u4b8 && layer.weight != Weight::u8b128) return "weight type";
  if (layer.activations != Float::f16) return "activations";
  return {};
}

std::string tile_text(const Variant& v) {
  return std::to_string(v.tile.m) + " x " + std::to_string(v.tile.n) + " x " + std::to_string(v.tile.k);
}

std::string table() {
  std::string text;
  for (const Variant& v : kVariants)
    text += std::string{"\n  mma.sync (8.0 on) "} + name_of(v.bits == 4 ? Weight::u4b8 : Weight::u8b128) +
            " f16   " + (v.grouped ? "grouped  " : "per column") + "   tile (m, n, k) " + tile_text(v);
  return text;
}

std::string tile(const GemmPlan& plan) {
  return tile_text(kVariants.at(static_cast<std::size_t>(plan.variant)));
}

void plan(GemmPlan& plan, const GpuTraits& gpu) {
  const LayerShape& layer = plan.layer;
  const M m = plan.m;
  const auto refuse = [&](const char* why) {
    throw Error{ErrorKind::unsupported, "no GPU kernel for " + describe(layer) + ": " + why};
  };
  int variant = -1;
  for (int i = 0; i < static_cast<int>(kVariants.size()); ++i) {
    if (!fits(kVariants[static_cast<std::size_t>(i)], layer)) continue;
    variant = i;
    if (kVariants[static_cast<std::size_t>(i)].tile.m >= m.value) break;
  }
  const Variant& v = kVariants.at(static_cast<std::size_t>(variant));

  const auto tiles = [](std::int64_t extent, int tile) { return (extent + tile - 1) / tile; };
  const std::int64_t tiles_m = tiles(m.value, v.tile.m), tiles_n = tiles(layer.n.value, v.tile.n);
  const std::int64_t stages = tiles(layer.k.value, v.tile.k);
  // The device counts units and rows in 32 bits.
  constexpr std::int64_t kMax = std::numeric_limits<int>::max() / 2;
  if (m.value > kMax || tiles_m > kMax / (tiles_n * stages)) refuse("M is too large");

  plan.variant = variant;
  plan.partition = Partition{static_cast<int>(tiles_m), static_cast<int>(tiles_n), static_cast<int>(stages),
                             std::max(1, gpu.num_sms) * v.blocks_per_sm};
  const Partition& p = plan.partition;
  plan.counter_bytes = round_up(static_cast<std::size_t>(p.tiles()) * sizeof(int), 128);
  plan.workspace_bytes =
      plan.counter_bytes + static_cast<std::size_t>(p.slots()) * static_cast<std::size_t>(v.slot_bytes);
}

void launch(const GemmPlan& plan, const GemmBuffers& buffers, GpuStream stream) {
  const Variant& v = kVariants.at(static_cast<std::size_t>(plan.variant));
  const LayerShape& layer = plan.layer;
  const int steps_per_group = layer.grouped() ? static_cast<int>(layer.group_size->value) / kMmaK : 1;
  const GemmArgs args{
      .activations = reinterpret_cast<const __half*>(buffers.activations),
      .words = reinterpret_cast<const uint4*>(buffers.words),
      .scales = reinterpret_cast<const __half*>(buffers.scales),
      .out = reinterpret_cast<__half*>(buffers.out),
      .counters = static_cast<int*>(buffers.workspace),
      .partials = reinterpret_cast<float4*>(static_cast<std::byte*>(buffers.workspace) + plan.counter_bytes),
      .m = static_cast<int>(plan.m.value),
      .n = static_cast<int>(layer.n.value),
      .k = static_cast<int>(layer.k.value),
      .weight_tiles = static_cast<int>(layer.n.value / kTileN),
      .k_steps = static_cast<int>(layer.k.value / kMmaK),
      .group_shift = std::countr_zero(static_cast<unsigned>(steps_per_group)),
      .partition = plan.partition,
  };
  MPK_CUDA(cudaFuncSetAttribute(v.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, v.smem_bytes));
  v.kernel<<<plan.partition.blocks, v.threads, v.smem_bytes, stream>>>(args);
  MPK_CUDA(cudaGetLastError());
}

bool runs_on(int capability) {
  return capability >= 80;
}

}  // namespace

const GemmFamilyRow kMmaSyncFamily{GemmFamily::mma_sync, runs_on, refusal, plan, launch, table, tile};

std::string gemm_code_missing() {
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, kVariants.front().kernel);
  if (status == cudaSuccess) return {};
  (void)cudaGetLastError();
  return std::string{"this build has no code for it ("} + cudaGetErrorString(status) + ")";
}

}  // namespace mpk
