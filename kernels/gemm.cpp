#include "kernels/gemm.hpp"

#include <algorithm>
#include <limits>

#include <cuda_runtime_api.h>

#include "gpu/check.hpp"
#include "kernels/family.hpp"
#include "packer/format/error.hpp"
#include "packer/format/layouts.hpp"

namespace mpk {
namespace {

constexpr const GemmFamilyRow* kFamilies[] = {&kHopperFamily, &kMmaSyncFamily};  // the faster first

const GemmFamilyRow& row_of(GemmFamily family) {
  return **std::ranges::find(kFamilies, family, [](const GemmFamilyRow* row) { return row->family; });
}

[[noreturn]] void refuse(const LayerShape& layer, const std::string& why) {
  throw Error{ErrorKind::unsupported,
              "no GPU kernel for " + describe(layer) + ": " + why + "\n" + gemm_table()};
}

}  // namespace

std::string describe(const LayerShape& layer) {
  return std::string{name_of(layer.weight)} + " with " +
         activations_text(layer.activations8, layer.activations) + " activations, group size " +
         (layer.group_size ? std::to_string(layer.group_size->value) : "-1") +
         ", K = " + std::to_string(layer.k.value) + ", N = " + std::to_string(layer.n.value);
}

std::string common_refusal(const LayerShape& layer) {
  if (layer.k.value <= 0 || layer.k.value % (layer.activations8 ? kTileA8 : kTileK) != 0) return "K";
  if (layer.n.value <= 0 || layer.n.value % kTileN != 0) return "N";
  const auto has_group_of = [&](std::initializer_list<int> sizes) {
    return layer.group_size && std::ranges::find(sizes, layer.group_size->value) != sizes.end();
  };
  switch (layer.weight) {
    case Weight::nvfp4:
      if (!has_group_of({16})) return "group size";
      break;
    case Weight::mxfp4:
      if (!has_group_of({32})) return "group size";
      if (!layer.activations8 && layer.activations != Float::bf16)
        return "scales that are powers of two up to 2^127 need bf16 activations";
      break;
    default:
      if (layer.grouped() && !has_group_of({32, 64, 128})) return "group size";
  }
  if (layer.grouped() && !divides(*layer.group_size, layer.k)) return "the group size does not divide K";
  if (std::max(layer.k.value, layer.n.value) > std::numeric_limits<int>::max() / 16) return "too large";
  if (layer.activations8) {
    if (layer.act_order) return "act_order needs 16-bit activations";
    constexpr int kMostK = std::numeric_limits<int>::max() / (128 * 128);
    if (layer.activations8 == Activation8::int8 && layer.k.value > kMostK)
      return "sums of more than " + std::to_string(kMostK) + " products may not fit in 32 bits";
  }
  return {};
}

std::string gemm_table() {
  std::string text = "kernels: K a multiple of 16 (of 32 for activations of 8 bits), N of 64";
  for (const GemmFamilyRow* row : kFamilies) text += row->table();
  return text;
}

void require_gemm(const LayerShape& layer) {
  std::string why;
  for (const GemmFamilyRow* row : kFamilies) {
    why = row->refusal(layer);
    if (why.empty()) return;
  }
  refuse(layer, why);
}

std::vector<GemmPlan> gemm_plans(const LayerShape& layer, M m, const GpuTraits& gpu,
                                 std::optional<GemmFamily> family) {
  if (m.value <= 0) refuse(layer, "M = " + std::to_string(m.value));
  if (m.value > std::numeric_limits<int>::max() / 2) refuse(layer, "M is too large");
  if (layer.activations8 == Activation8::e4m3 && gpu.capability < kFp8Capability)
    refuse(layer, "FP8 products need compute capability 8.9, this GPU has " +
                      std::to_string(gpu.capability / 10) + "." + std::to_string(gpu.capability % 10));
  std::string why = "no kernel of this build runs on compute capability " + std::to_string(gpu.capability);
  for (const GemmFamilyRow* row : kFamilies) {
    if ((family && row->family != *family) || !row->runs_on(gpu.capability)) continue;
    why = row->refusal(layer);
    if (!why.empty()) continue;
    std::vector<GemmPlan> plans = row->plans({layer, m, row->family, -1, {}, 0, 0, 0, 0}, gpu);
    if (plans.empty()) refuse(layer, "M = " + std::to_string(m.value) + " is too large");
    std::ranges::stable_sort(plans, {}, &GemmPlan::expected_us);
    if (layer.act_order)
      for (GemmPlan& plan : plans) {
        plan.gathered_at = round_up(plan.workspace_bytes, 128);
        plan.workspace_bytes = plan.gathered_at + static_cast<std::size_t>(m.value) *
                                                      static_cast<std::size_t>(layer.k.value) * 2;
      }
    return plans;
  }
  refuse(layer, why);
}
GemmPlan plan_gemm(const LayerShape& layer, M m, const GpuTraits& gpu, std::optional<GemmFamily> family) {
  return gemm_plans(layer, m, gpu, family).front();
}

std::string describe(const GemmPlan& plan) {
  const Partition& p = plan.partition;
  std::string text = std::string{name_of(plan.family)} + " " + name_of(plan.layer.weight) + " " +
                     activations_text(plan.layer.activations8, plan.layer.activations) + ", tile " +
                     row_of(plan.family).tile(plan) + ", " + std::to_string(p.tiles()) + " tiles on " +
                     std::to_string(p.blocks) + " blocks";
  if (p.waves > 0) text += ", " + std::to_string(p.waves) + " waves";
  if (p.cut_tiles() > 0)
    text += p.parts > 1 ? ", " + std::to_string(p.cut_tiles()) + " in " + std::to_string(p.parts) + " parts"
            : p.parts == 0 ? ", " + std::to_string(p.cut_tiles()) + " in stripes"
                           : "";
  return text;
}

GpuTraits current_gpu_traits() {
  int device = 0, major = 0, minor = 0, sms = 0;
  MPK_CUDA(cudaGetDevice(&device));
  MPK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  MPK_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  MPK_CUDA(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device));
  return {10 * major + minor, sms,
          kHopperFamily.runs_on(10 * major + minor) ? max_clusters() : decltype(GpuTraits::clusters){}};
}

void gemm(const GemmPlan& plan, const GemmBuffers& buffers, GpuStream stream) {
  GemmBuffers stored = buffers;
  if (plan.layer.act_order) {
    auto* gathered =
        reinterpret_cast<std::uint16_t*>(static_cast<std::byte*>(buffers.workspace) + plan.gathered_at);
    gather_columns(static_cast<const std::uint16_t*>(buffers.activations), buffers.perm, gathered, plan.m,
                   plan.layer.k, stream);
    stored.activations = gathered;
  }
  row_of(plan.family).launch(plan, stored, stream);
}

}  // namespace mpk
