#include "packer/formats/formats.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk::formats {
namespace {

/// A regular expression that matches this module name and nothing else.
std::string exactly(const std::string& module) {
  std::string pattern = "^";
  for (char c : module) {
    if (std::string_view{R"(.^$*+?()[]{}|\)"}.find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern + "$";
}

/// The largest usual group size that divides k, -1 if none does.
std::int64_t usual_group_size(K k) {
  for (std::int64_t g : {128, 64, 32})
    if (divides(GroupSize{g}, k)) return g;
  return -1;
}

/// Engines join these along n and look their rule up under the joint name, which no module of the checkpoint
/// has.
struct Fusion {
  const char* name;
  std::vector<std::string> parts;  ///< the first one stands for the set
};
const std::vector<Fusion>& fusions() {
  static const std::vector<Fusion> table{{"qkv_proj", {"q_proj", "k_proj", "v_proj"}},
                                         {"gate_up_proj", {"gate_proj", "up_proj"}}};
  return table;
}

/// Calls `found(fused name, module)` for every complete set of parts in `modules`, `module` being its first
/// part.
template <class Modules, class Has, class Found>
void for_each_fused(const Modules& modules, Has has, Found found) {
  for (const std::string& module : modules)
    for (const Fusion& fusion : fusions()) {
      if (!module.ends_with("." + fusion.parts.front())) continue;
      const std::string parent = module.substr(0, module.size() - fusion.parts.front().size());
      if (std::ranges::all_of(fusion.parts,
                              [&](const std::string& part) { return has(parent + part, module); }))
        found(parent + fusion.name, module);
    }
}

/// `schemes`, with the fused names of parts that are all excepted alike, or all left unquantized.
CheckpointSchemes with_fused_names(CheckpointSchemes schemes) {
  std::vector<std::string> modules;
  for (const auto& [module, scheme] : schemes.exceptions) modules.push_back(module);
  for_each_fused(
      modules,
      [&](const std::string& part, const std::string& first) {
        const auto it = schemes.exceptions.find(part);
        return it != schemes.exceptions.end() && it->second == schemes.exceptions.at(first);
      },
      [&](const std::string& fused, const std::string& first) {
        schemes.exceptions.emplace(fused, schemes.exceptions.at(first));
      });
  modules.assign(schemes.unquantized.begin(), schemes.unquantized.end());
  for_each_fused(
      modules,
      [&](const std::string& part, const std::string&) { return schemes.unquantized.contains(part); },
      [&](const std::string& fused, const std::string&) { schemes.unquantized.insert(fused); });
  return schemes;
}

}  // namespace

std::optional<std::string> common_refusal(const Scheme& scheme, K k, N n) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
  if (k.value < 1 || n.value < 1 || k.value > kMax || n.value > kMax)
    return fmt::format("K = {}, N = {} are not both in 1 .. 2^31 - 1", k.value, n.value);
  if (!scalar_type_named(name_of(scheme.type)))
    return fmt::format("{}-bit codes with bias {} have no type here; u4b8 and u8b128 do", scheme.type.bits,
                       scheme.type.bias);
  if (scheme.scale_dtype != DType::F16 && scheme.scale_dtype != DType::BF16)
    return fmt::format("scales cannot be {}; F16 or BF16", info(scheme.scale_dtype).name);
  if (scheme.group_size && !divides(*scheme.group_size, k))
    return fmt::format("group_size {} does not divide K = {}; {} does", scheme.group_size->value, k.value,
                       usual_group_size(k));
  return std::nullopt;
}

void refuse(std::optional<std::string> (*refusal)(const Scheme&, K, N), const Scheme& scheme, K k, N n) {
  if (auto why = refusal(scheme, k, n)) throw Error{ErrorKind::unsupported, *why};
}

std::vector<Part> allocate(const std::vector<PartSpec>& specs) {
  std::vector<Part> parts;
  for (const PartSpec& spec : specs)
    parts.push_back({spec.suffix, {spec.dtype, spec.shape, std::vector<std::byte>(num_bytes(spec))}});
  return parts;
}

std::int64_t group_size_number(const Scheme& scheme) {
  return scheme.group_size ? scheme.group_size->value : -1;
}

void require_consistent(const QuantizedMatrix& q) {
  const Groups groups = q.scheme.groups(q.k());
  if (q.scales.rows() != groups.value || q.scales.cols() != q.codes.cols())
    throw Error{ErrorKind::bad_input,
                fmt::format("codes ({}, {}) with group_size {} need scales ({}, {}), not ({}, {})",
                            q.k().value, q.n().value, group_size_number(q.scheme), groups.value, q.n().value,
                            q.scales.rows(), q.scales.cols())};
}

Extents matrix_extents(const PartViews& parts, std::string_view suffix) {
  const Shape& shape = part_of(parts, suffix).shape;
  constexpr std::int64_t kMax = std::int64_t{1} << 34;  // 8-bit words of one row of tiles: 4 N
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1 || shape[0] > kMax || shape[1] > kMax)
    throw Error{ErrorKind::bad_input, fmt::format("{} has shape {}, no matrix", suffix, to_string(shape))};
  return {shape[0], shape[1]};
}

Scheme scheme_from(std::int64_t bits, K k, Groups groups, DType scale_dtype) {
  Scheme scheme;
  for (const NamedScalarType& row : kScalarTypes)
    if (row.type.bits == bits) {
      scheme.type = row.type;
      scheme.scale_dtype = scale_dtype;
      if (groups.value == 1) return scheme;
      if (k.value % groups.value != 0)
        throw Error{ErrorKind::bad_input,
                    fmt::format("scales: {} groups do not divide K = {}", groups.value, k.value)};
      scheme.group_size = GroupSize{k.value / groups.value};
      return scheme;
    }
  throw Error{ErrorKind::bad_input, fmt::format("the shapes say {} bits per code; 4 and 8 are known", bits)};
}

std::map<std::string, Scheme> real_exceptions(const CheckpointSchemes& schemes) {
  std::map<std::string, Scheme> real;
  for (const auto& [module, scheme] : schemes.exceptions) {
    if (schemes.unquantized.contains(module))
      throw Error{ErrorKind::bad_input, fmt::format("{} has a scheme and is unquantized", module)};
    if (scheme != schemes.common) real.emplace(module, scheme);
  }
  return real;
}

nlohmann::json gptq_config(const char* checkpoint_format, const CheckpointSchemes& checkpoint) {
  const CheckpointSchemes schemes = with_fused_names(checkpoint);
  nlohmann::json config = {{"quant_method", "gptq"},
                           {"checkpoint_format", checkpoint_format},
                           {"bits", schemes.common.type.bits},
                           {"group_size", group_size_number(schemes.common)},
                           {"desc_act", false},
                           {"sym", true},
                           {"lm_head", false}};
  // Readers take the first rule that matches; anchored at both ends, no two of ours match one name.
  nlohmann::json rules = nlohmann::json::object();
  for (const auto& [module, scheme] : real_exceptions(schemes))
    if (scheme.type != schemes.common.type || scheme.group_size != schemes.common.group_size)
      rules["+:" + exactly(module)] = {{"bits", scheme.type.bits}, {"group_size", group_size_number(scheme)}};
  for (const std::string& module : schemes.unquantized)
    if (module != "lm_head") rules["-:" + exactly(module)] = nlohmann::json::object();
  if (!rules.empty()) config["dynamic"] = rules;
  return config;
}

}  // namespace mpk::formats
