#pragma once
// What a family of kernels says of itself to gemm.cpp. To add one: a folder, and its row in gemm.cpp.

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "kernels/gemm.hpp"

namespace mpk {

struct GemmFamilyRow {
  GemmFamily family;
  bool (*runs_on)(int capability);
  /// Why no kernel of the family takes the layer; empty if one does.
  std::string (*refusal)(const LayerShape& layer);
  /// `asked` with variant, partition, expected_us and workspace filled in, in every way that may be fast;
  /// none if M is too large. The layer is not refused.
  std::vector<GemmPlan> (*plans)(const GemmPlan& asked, const GpuTraits& gpu);
  void (*launch)(const GemmPlan& plan, const GemmBuffers& buffers, GpuStream stream);
  std::string (*table)();                     ///< a line per kernel
  std::string (*tile)(const GemmPlan& plan);  ///< "16 x 256 x 128"
};
extern const GemmFamilyRow kMmaSyncFamily, kHopperFamily;

/// GpuTraits::clusters of the current GPU; zeros where the Hopper kernels do not run.
decltype(GpuTraits::clusters) max_clusters();

/// What all kernels want of a layer: whole tiles, groups that divide K, a group size of the weight's kind.
std::string common_refusal(const LayerShape& layer);
std::string describe(const LayerShape& layer);

/// out (M, K)[i] = in[perm[i]] in every row: activations in the order in which an act_order layer is stored.
void gather_columns(const std::uint16_t* in, const std::int32_t* perm, std::uint16_t* out, M m, K k,
                    GpuStream stream);

/// For tables whose rows have `weight`, `activations` and `activations8`.
template <class Row>
bool takes(const Row& row, const LayerShape& layer) {
  return row.weight == layer.weight && row.activations == layer.activations &&
         row.activations8 == layer.activations8;
}
template <class Table>
std::string refusal_by(const Table& rows, const LayerShape& layer) {
  if (std::string why = common_refusal(layer); !why.empty()) return why;
  return std::ranges::any_of(rows, [&](const auto& row) { return takes(row, layer); }) ? "" : "weight type";
}

/// The rows of a table, written in parts.
template <class T, std::size_t... kSizes>
constexpr auto join(const std::array<T, kSizes>&... arrays) {
  std::array<T, (kSizes + ...)> all{};
  auto at = all.begin();
  ((at = std::ranges::copy(arrays, at).out), ...);
  return all;
}

/// The rows of a table for activations of 8 bits: Rows<kActivations>::of<weight, float>() of every kind there
/// is.
template <template <Activation8> class Rows, Activation8 kActivations>
constexpr auto rows_of_kinds8() {
  using Of = Rows<kActivations>;
  constexpr Weight kThird = kActivations == Activation8::int8 ? Weight::u8b128 : Weight::mxfp4;
  return join(Of::template of<Weight::u4b8, Float::f16>(), Of::template of<Weight::u4b8, Float::bf16>(),
              Of::template of<Weight::u4, Float::f16>(), Of::template of<Weight::u4, Float::bf16>(),
              Of::template of<kThird, Float::f16>(), Of::template of<kThird, Float::bf16>());
}

constexpr std::size_t round_up(std::size_t bytes, std::size_t to) {
  return (bytes + to - 1) / to * to;
}

/// Room in the workspace for what its blocks share of tiles: a counter of each, then slots of sums.
inline void add_shared_tiles(GemmPlan& plan, int slot_bytes) {
  const Partition& p = plan.partition;
  plan.counter_bytes = round_up(static_cast<std::size_t>(p.tiles()) * sizeof(int), 128);
  plan.workspace_bytes =
      plan.counter_bytes + static_cast<std::size_t>(p.slots()) * static_cast<std::size_t>(slot_bytes);
}

}  // namespace mpk
