#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "gpu/check.hpp"
#include "kernels/family.hpp"
#include "kernels/hopper/plan.hpp"
#include "kernels/hopper/variant.cuh"

namespace mpk {
namespace {

/// The whole table.
const std::vector<HopperVariant>& variants() {
  static const std::vector<HopperVariant> all = [] {
    std::vector<HopperVariant> rows;
    for (const auto more :
         {hopper_f16_variants(), hopper_bf16_variants(), hopper_int8_variants(), hopper_fp8_variants()})
      rows.insert(rows.end(), more.begin(), more.end());
    return rows;
  }();
  return all;
}
const HopperVariant& variant_of(const GemmPlan& plan) {
  return variants().at(static_cast<std::size_t>(plan.variant));
}

std::string refusal(const LayerShape& layer) {
  return refusal_by(variants(), layer);
}

std::vector<GemmPlan> plans(const GemmPlan& asked, const GpuTraits& gpu) {
  std::vector<HopperTile> rows;
  int first = -1;
  for (int i = 0; i < static_cast<int>(variants().size()); ++i)
    if (const HopperVariant& v = variants()[static_cast<std::size_t>(i)]; takes(v, asked.layer)) {
      if (first < 0) first = i;
      rows.push_back(v.tile);
    }
  std::vector<GemmPlan> all;
  for (const HopperChoice& choice : hopper_choices(rows, asked.layer.k, asked.layer.n, asked.m, gpu)) {
    GemmPlan& plan = all.emplace_back(asked);
    plan.variant = first + choice.row;
    plan.partition = choice.partition;
    plan.expected_us = choice.microseconds;
    // Parts of a tile are added up inside a cluster.
    if (plan.partition.parts == 0) add_shared_tiles(plan, variant_of(plan).slot_bytes);
  }
  return all;
}

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                 const cuuint64_t*, const cuuint32_t*, const cuuint32_t*,
                                 CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                                 CUtensorMapFloatOOBfill);
/// From the driver that is there, so that the program links without one.
EncodeTiled encode_tiled() {
  static const EncodeTiled function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    MPK_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault,
                                              &result));
    if (!found) throw Error{ErrorKind::device, "the driver has no cuTensorMapEncodeTiled"};
    return reinterpret_cast<EncodeTiled>(found);
  }();
  return function;
}

struct Box {
  int columns, rows;
};
CUtensorMap matrix_map(CUtensorMapDataType type, int element_bytes, const void* base, std::int64_t columns,
                       std::int64_t rows, Box box, CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_NONE) {
  CUtensorMap map{};
  const cuuint64_t extent[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t row_bytes[] = {static_cast<cuuint64_t>(columns * element_bytes)};
  const cuuint32_t box_extent[] = {static_cast<cuuint32_t>(box.columns), static_cast<cuuint32_t>(box.rows)};
  const cuuint32_t every[] = {1, 1};
  const CUresult result =
      encode_tiled()(&map, type, 2, const_cast<void*>(base), extent, row_bytes, box_extent, every,
                     CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                     CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw Error{ErrorKind::device, "cuTensorMapEncodeTiled: error " + std::to_string(result) +
                                       " for a matrix of " + std::to_string(rows) + " rows of " +
                                       std::to_string(columns) + " elements; is it 16-byte aligned?"};
  return map;
}

void launch(const GemmPlan& plan, const GemmBuffers& buffers, GpuStream stream) {
  const HopperVariant& v = variant_of(plan);
  const LayerShape& layer = plan.layer;
  const std::int64_t k = layer.k.value, n = layer.n.value;
  const int group = layer.grouped() ? static_cast<int>(layer.group_size->value) : 1 << 30;
  const int groups_per_stage = std::max(1, v.tile.k / group);
  const bool bytes = scale_bytes(layer.weight) == 1, one_byte = layer.activations8.has_value();
  const int activation_bytes = one_byte ? 1 : 2;
  HopperArgs args{
      .activations = matrix_map(one_byte ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_UINT16,
                                activation_bytes, buffers.activations, k, plan.m.value,
                                {128 / activation_bytes, v.tile.m}, CU_TENSOR_MAP_SWIZZLE_128B),
      .words = matrix_map(CU_TENSOR_MAP_DATA_TYPE_UINT64, 8, buffers.words,
                          n * v.step_k * bits_of(layer.weight) / 64, k / v.step_k,
                          {v.box_row_bytes / 8, v.tile.k / v.step_k}),
      .scales = matrix_map(bytes ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_UINT16,
                           bytes ? 1 : 2, buffers.scales, n, layer.groups(), {v.tile.n, groups_per_stage}),
      .zeros = {},
      .column_scales = static_cast<const std::uint16_t*>(buffers.scales),
      .bias = buffers.bias,
      .row_scales = buffers.row_scales,
      .global_scale = buffers.global_scale,
      .out = buffers.out,
      .counters = static_cast<int*>(buffers.workspace),
      .partials = reinterpret_cast<float*>(static_cast<std::byte*>(buffers.workspace) + plan.counter_bytes),
      .m = static_cast<int>(plan.m.value),
      .n = static_cast<int>(n),
      .groups_per_stage = groups_per_stage,
      .group_shift = std::countr_zero(static_cast<unsigned>(group / v.step_k)),
      .grouped = layer.grouped(),
      .partition = plan.partition,
  };
  if (zero_bits(layer.weight) == 4)
    args.zeros = matrix_map(CU_TENSOR_MAP_DATA_TYPE_UINT32, 4, buffers.zero_points, n / 8, layer.groups(),
                            {v.tile.n / 8, groups_per_stage});
  else if (zero_bits(layer.weight) == 16)
    args.zeros = matrix_map(CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, buffers.zero_points, n, layer.groups(),
                            {v.tile.n, groups_per_stage});
  MPK_CUDA(cudaFuncSetAttribute(v.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, v.smem_bytes));
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {static_cast<unsigned>(std::max(1, plan.partition.parts)), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(plan.partition.blocks);
  config.blockDim = static_cast<unsigned>(v.threads);
  config.dynamicSmemBytes = static_cast<std::size_t>(v.smem_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  MPK_CUDA(cudaLaunchKernelEx(&config, v.kernel, args));
}

std::string tile_text(const HopperTile& tile) {
  return std::to_string(tile.m) + " x " + std::to_string(tile.n) + " x " + std::to_string(tile.k);
}

std::string table() {
  std::string text;
  for (const HopperVariant& v : variants())
    text += std::string{"\n  hopper (9.0)     "} + name_of(v.weight) + " " +
            activations_text(v.activations8, v.activations) + "   tile (m, n, k) " + tile_text(v.tile);
  return text;
}

std::string tile(const GemmPlan& plan) {
  return tile_text(variant_of(plan).tile);
}

/// 9.0a code runs on nothing else.
bool runs_on(int capability) {
  return capability == 90;
}

GpuTraits::Clusters clusters_of(const HopperVariant& v) {
  GpuTraits::Clusters clusters{};
  if (cudaFuncSetAttribute(v.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, v.smem_bytes) !=
      cudaSuccess) {
    (void)cudaGetLastError();  // no code for this GPU
    return clusters;
  }
  for (int size = 1; size <= GpuTraits::kMaxCluster; ++size) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(size), 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = static_cast<unsigned>(size) * 1024;
    config.blockDim = static_cast<unsigned>(v.threads);
    config.dynamicSmemBytes = static_cast<std::size_t>(v.smem_bytes);
    config.attrs = &attribute;
    config.numAttrs = 1;
    int& found = clusters[static_cast<std::size_t>(size)];
    if (cudaOccupancyMaxActiveClusters(&found, v.kernel, &config) != cudaSuccess) {
      (void)cudaGetLastError();
      found = 0;
    }
  }
  return clusters;
}

}  // namespace

const GemmFamilyRow kHopperFamily{GemmFamily::hopper, runs_on, refusal, plans, launch, table, tile};

decltype(GpuTraits::clusters) max_clusters() {
  decltype(GpuTraits::clusters) clusters{};
  for (int blocks = 1; blocks <= GpuTraits::kMaxBlocksPerSm; ++blocks) {
    const auto row =
        std::ranges::find(variants(), blocks, [](const HopperVariant& v) { return v.tile.blocks_per_sm; });
    if (row != variants().end()) clusters[static_cast<std::size_t>(blocks - 1)] = clusters_of(*row);
  }
  return clusters;
}

}  // namespace mpk
