// The "quantization_config" of compressed-tensors: a config group per scheme. The first one is for all linear
// modules, the others name theirs, which readers prefer to a class; "ignore" names the unquantized.

#include <algorithm>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/formats/formats.hpp"

namespace mpk::formats {
namespace {

/// How a scheme is said.
struct Words {
  const char* format;
  nlohmann::json weights;
};

nlohmann::json float_weights(int bits, const char* strategy) {
  return {{"num_bits", bits},     {"type", "float"},       {"symmetric", true},
          {"strategy", strategy}, {"group_size", nullptr}, {"block_structure", nullptr},
          {"dynamic", false},     {"actorder", nullptr}};
}

/// Blocks of 8-bit scales along k.
nlohmann::json block_weights(int bits, const char* strategy, int size, const char* scale_dtype) {
  nlohmann::json weights = float_weights(bits, strategy);
  weights["group_size"] = size;
  weights["scale_dtype"] = scale_dtype;
  return weights;
}

std::optional<Words> float_words(const Scheme& scheme) {
  if (scheme.type == kE2M1 && scheme.scale_dtype == DType::F8_E4M3)
    return Words{"nvfp4-pack-quantized", block_weights(4, "tensor_group", 16, "torch.float8_e4m3fn")};
  if (scheme.type == kE2M1 && scheme.scale_dtype == DType::F8_E8M0)
    return Words{"mxfp4-pack-quantized", block_weights(4, "group", 32, "torch.uint8")};
  if (scheme.type == kE4M3 && scheme.scale_dtype == DType::F8_E8M0)
    return Words{"mxfp8-quantized", block_weights(8, "group", 32, "torch.uint8")};
  if (scheme.type != kE4M3) return std::nullopt;
  Words words{"float-quantized", {}};
  if (scheme.columns_per_scale == Scheme::kAllColumns) {
    words.weights = float_weights(8, "tensor");
  } else if (scheme.columns_per_scale > 1) {
    words.weights = float_weights(8, "block");
    words.weights["block_structure"] = {scheme.columns_per_scale,
                                        scheme.group_size ? scheme.group_size->value : 128};
  } else if (scheme.group_size) {
    words.weights = float_weights(8, "group");
    words.weights["group_size"] = scheme.group_size->value;
  } else {
    words.weights = float_weights(8, "channel");
  }
  return words;
}

Words words_for(const Scheme& scheme) {
  if (auto words = float_words(scheme)) return *words;
  throw Error{ErrorKind::unsupported,
              fmt::format("compressed-tensors has no words for {}", to_string(scheme))};
}

}  // namespace

nlohmann::json compressed_tensors_config(const CheckpointSchemes& schemes) {
  const auto group_of = [](const Scheme& scheme) -> nlohmann::json {
    const Words words = words_for(scheme);
    return {{"format", words.format},
            {"weights", words.weights},
            {"input_activations", nullptr},
            {"output_activations", nullptr}};
  };
  // Schemes that are said alike share a group.
  std::vector<std::pair<nlohmann::json, std::vector<std::string>>> groups;
  const std::map<std::string, Scheme> exceptions = real_exceptions(schemes);
  groups.emplace_back(group_of(schemes.common), std::vector<std::string>{"Linear"});
  for (const auto& [module, scheme] : exceptions) {
    const nlohmann::json group = group_of(scheme);
    const auto found = std::ranges::find(groups, group, [](const auto& known) { return known.first; });
    if (found == groups.end()) {
      groups.push_back({group, {module}});
    } else if (found != groups.begin()) {
      found->second.push_back(module);
    }
  }
  nlohmann::json config_groups = nlohmann::json::object();
  std::string format = groups.front().first.at("format");
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].first.at("format") != format) format = "mixed-precision";
    groups[i].first["targets"] = groups[i].second;
    config_groups[fmt::format("group_{}", i)] = groups[i].first;
  }
  return {{"quant_method", "compressed-tensors"}, {"format", format},
          {"quantization_status", "compressed"},  {"config_groups", config_groups},
          {"ignore", schemes.unquantized},        {"kv_cache_scheme", nullptr}};
}

}  // namespace mpk::formats
