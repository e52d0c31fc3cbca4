#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/gemm.hpp"
#include "kernels/gemm_kernel.cuh"
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

constexpr ScalarType kTypes[] = {kU4B8, kU8B128};
constexpr int kGroupSizes[] = {32, 64, 128};

bool fits(const Variant& v, const LayerShape& layer) {
  return v.bits == layer.type.bits && v.grouped == layer.grouped();
}

std::string describe(const LayerShape& layer) {
  std::string type = name_of(layer.type);
  if (type == "?")
    type = std::to_string(layer.type.bits) + " bits with bias " + std::to_string(layer.type.bias);
  return type + ", group size " + (layer.group_size ? std::to_string(layer.group_size->value) : "-1") +
         ", K = " + std::to_string(layer.k.value) + ", N = " + std::to_string(layer.n.value);
}

[[noreturn]] void refuse(const LayerShape& layer, const std::string& why) {
  throw Error{ErrorKind::unsupported,
              "no GPU kernel for " + describe(layer) + ": " + why + "\n" + gemm_table()};
}

std::size_t round_up(std::size_t bytes, std::size_t to) {
  return (bytes + to - 1) / to * to;
}

}  // namespace

std::string gemm_table() {
  std::string text = "kernels: K a multiple of 16, N of 64, activations and output f16";
  for (const Variant& v : kVariants) {
    const ScalarType type = v.bits == 4 ? kU4B8 : kU8B128;
    text += "\n  " + std::string{name_of(type)} + (v.bits == 4 ? "   " : " ") +
            (v.grouped ? "group size 32, 64, 128" : "group size -1         ") + "   tile (m, n, k) " +
            std::to_string(v.tile.m) + " x " + std::to_string(v.tile.n) + " x " + std::to_string(v.tile.k);
  }
  return text;
}

void require_gemm(const LayerShape& layer) {
  if (std::ranges::find(kTypes, layer.type) == std::end(kTypes)) refuse(layer, "weight type");
  if (layer.k.value <= 0 || layer.k.value % kTileK != 0) refuse(layer, "K");
  if (layer.n.value <= 0 || layer.n.value % kTileN != 0) refuse(layer, "N");
  if (layer.grouped()) {
    if (std::ranges::find(kGroupSizes, layer.group_size->value) == std::end(kGroupSizes))
      refuse(layer, "group size");
    if (!divides(*layer.group_size, layer.k)) refuse(layer, "the group size does not divide K");
  }
  if (std::max(layer.k.value, layer.n.value) > std::numeric_limits<int>::max() / 16)
    refuse(layer, "too large");
}

GemmPlan plan_gemm(const LayerShape& layer, M m, int num_sms) {
  require_gemm(layer);
  if (m.value <= 0) refuse(layer, "M = " + std::to_string(m.value));
  int variant = -1;
  for (int i = 0; i < static_cast<int>(kVariants.size()); ++i) {
    if (!fits(kVariants[i], layer)) continue;
    variant = i;
    if (kVariants[i].tile.m >= m.value) break;
  }
  if (variant < 0) refuse(layer, "not in this build");
  const Variant& v = kVariants[variant];

  const auto tiles = [](std::int64_t extent, int tile) { return (extent + tile - 1) / tile; };
  const std::int64_t tiles_m = tiles(m.value, v.tile.m), tiles_n = tiles(layer.n.value, v.tile.n);
  const std::int64_t stages = tiles(layer.k.value, v.tile.k);
  // The device counts units and rows in 32 bits.
  constexpr std::int64_t kMax = std::numeric_limits<int>::max() / 2;
  if (m.value > kMax || tiles_m > kMax / (tiles_n * stages)) refuse(layer, "M is too large");

  GemmPlan plan{layer, m, variant, {}, 0, 0};
  plan.partition = Partition{static_cast<int>(tiles_m), static_cast<int>(tiles_n), static_cast<int>(stages),
                             std::max(1, num_sms) * v.blocks_per_sm};
  const Partition& p = plan.partition;
  plan.counter_bytes = round_up(static_cast<std::size_t>(p.tiles()) * sizeof(int), 128);
  plan.workspace_bytes =
      plan.counter_bytes + static_cast<std::size_t>(p.slots()) * static_cast<std::size_t>(v.slot_bytes);
  return plan;
}

void gemm(const GemmPlan& plan, const GemmBuffers& buffers, GpuStream stream) {
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

std::string gemm_code_missing() {
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, kVariants.front().kernel);
  if (status == cudaSuccess) return {};
  (void)cudaGetLastError();
  return std::string{"this build has no code for it ("} + cudaGetErrorString(status) + ")";
}

}  // namespace mpk
