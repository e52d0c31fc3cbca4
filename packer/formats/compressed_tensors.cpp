// The configuration of compressed-tensors for every scheme that a row of the family holds, and what the
// integer rows share.

#include "packer/formats/compressed_tensors.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk::formats {
namespace {

using Json = nlohmann::json;

/// A config group without its targets.
struct Group {
  const char* format;
  Json weights;  ///< only keys that the oldest reader of the format knows: others are errors there
  friend bool operator==(const Group& a, const Group& b) {
    return std::string_view{a.format} == b.format && a.weights == b.weights;
  }
};

const char* format_of(const Scheme& scheme) {
  const bool small_scales = scheme.scale_dtype == DType::F8_E8M0;
  switch (scheme.type.encoding) {
    case Encoding::integer:
      return "pack-quantized";
    case Encoding::e2m1:
      return small_scales ? "mxfp4-pack-quantized" : "nvfp4-pack-quantized";
    case Encoding::e4m3:
      return small_scales ? "mxfp8-quantized" : "float-quantized";
  }
  return "dense";
}

Json strategy_of(const Scheme& scheme) {
  const std::int64_t columns = scheme.columns_per_scale;
  if (columns == Scheme::kAllColumns && !scheme.group_size) return {{"strategy", "tensor"}};
  if (columns == Scheme::kAllColumns)
    throw Error{ErrorKind::unsupported,
                fmt::format("compressed-tensors has no strategy for {}", to_string(scheme))};
  if (columns > 1) {  // a matrix of one group says nothing of its blocks' rows: they are square everywhere
    const std::int64_t rows = scheme.group_size ? scheme.group_size->value : columns;
    return {{"strategy", "block"}, {"block_structure", {columns, rows}}};
  }
  if (!scheme.group_size) return {{"strategy", "channel"}};
  return {{"strategy", scheme.scale_dtype == DType::F8_E4M3 ? "tensor_group" : "group"},
          {"group_size", scheme.group_size->value}};
}

Group group_of(const Scheme& scheme) {
  Json weights{{"num_bits", scheme.type.bits},
               {"type", scheme.type.is_integer() ? "int" : "float"},
               {"symmetric", scheme.zero_points == ZeroPoints::implied},
               {"group_size", nullptr},
               {"block_structure", nullptr},
               {"dynamic", false},
               {"actorder", nullptr}};
  weights.update(strategy_of(scheme));
  if (scheme.act_order) weights["actorder"] = "group";
  // The two ways to store E8M0 and E4M3 scales came with this key.
  if (scheme.scale_dtype == DType::F8_E4M3) weights["scale_dtype"] = "torch.float8_e4m3fn";
  if (scheme.scale_dtype == DType::F8_E8M0) weights["scale_dtype"] = "torch.uint8";
  return {format_of(scheme), std::move(weights)};
}

}  // namespace

// Every reader asks a module's name first and its class only then, so that "Linear" may stand for the rest.
// Names stand literally, not as regular expressions: engines that rename modules rename these too. Fused
// layers are looked up by name, then by class, and by their parts only at last: hence the fused names.
nlohmann::json compressed_tensors_config(const CheckpointSchemes& schemes) {
  struct Targeted {
    Group group;
    Json targets;
  };
  std::vector<Targeted> groups{{group_of(schemes.common), Json::array({"Linear"})}};
  CheckpointSchemes excepted{schemes.common, real_exceptions(schemes), {}};
  for (const auto& [module, scheme] : with_fused_names(excepted).exceptions) {
    Group group = group_of(scheme);
    if (group == groups.front().group) continue;
    const auto same = std::ranges::find(groups, group, &Targeted::group);
    if (same != groups.end()) {
      same->targets.push_back(module);
    } else {
      groups.push_back({std::move(group), Json::array({module})});
    }
  }
  const auto& first = groups.front().group;
  const bool mixed = std::ranges::any_of(
      groups, [&](const Targeted& t) { return std::string_view{t.group.format} != first.format; });
  Json config_groups = Json::object();
  for (std::size_t i = 0; i < groups.size(); ++i)
    config_groups[fmt::format("group_{}", i)] = {{"format", groups[i].group.format},
                                                 {"targets", groups[i].targets},
                                                 {"weights", groups[i].group.weights},
                                                 {"input_activations", nullptr},
                                                 {"output_activations", nullptr}};
  return {{"quant_method", "compressed-tensors"}, {"format", mixed ? "mixed-precision" : first.format},
          {"quantization_status", "compressed"},  {"config_groups", std::move(config_groups)},
          {"ignore", schemes.unquantized},        {"kv_cache_scheme", nullptr}};
}

std::optional<std::string> ct_integer_refusal(const char* name, const Scheme& scheme, K k, N n) {
  Scheme ordinary = scheme;  // the limits of integer_refusal, less those that are none here
  if (scheme.scale_dtype == DType::F32) ordinary.scale_dtype = DType::F16;
  if (scheme.columns_per_scale == Scheme::kAllColumns) ordinary.columns_per_scale = 1;
  if (scheme.group_size && scheme.group_size->value > 0) ordinary.group_size.reset();
  if (auto why = integer_refusal(name, ordinary, k, n)) return why;
  if (scheme.columns_per_scale == Scheme::kAllColumns && scheme.group_size)
    return fmt::format(
        "{} has one scale for the matrix or one per group and column, not one for a group of "
        "all columns",
        name);
  return std::nullopt;
}

Shape ct_scale_shape(const Scheme& scheme, K k, N n) {
  if (scheme.columns_per_scale == Scheme::kAllColumns) return {1};
  return {n.value, scheme.groups(k).value};
}

ScaleGrid ct_scale_grid(const Scheme& scheme, K k) {
  ScaleGrid grid = ScaleGrid::columns(scheme.groups(k));
  grid.columns_per_scale = scheme.columns_per_scale;
  return grid;
}

void set_ct_scales(Scheme& scheme, const PartViews& parts, K k, N n, const Claims& claims) {
  const TensorView& scale = part_of(parts, "weight_scale");
  scheme.scale_dtype = scale.dtype;
  if (scale.shape.empty() || scale.shape == Shape{1}) {
    scheme.columns_per_scale = Scheme::kAllColumns;
    return;
  }
  const Extents extents = matrix_extents(parts, "weight_scale");
  if (extents.rows != n.value)
    throw Error{ErrorKind::bad_input,
                fmt::format("weight_scale has shape {}, not (1), ({}, 1) or ({}, groups)",
                            to_string(scale.shape), n.value, n.value)};
  scheme.group_size = within("weight_scale", [&] { return group_size_of(k, extents.cols, claims); });
}

}  // namespace mpk::formats
