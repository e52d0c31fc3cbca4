#include "packer/formats/formats.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/float_bits.hpp"

namespace mpk::formats {
namespace {

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

}  // namespace

std::optional<std::string> common_refusal(const Scheme& scheme, K k, N n) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
  if (k.value < 1 || n.value < 1 || k.value > kMax || n.value > kMax)
    return fmt::format("K = {}, N = {} are not both in 1 .. 2^31 - 1", k.value, n.value);
  if (!scalar_type_named(name_of(scheme.type)))
    return fmt::format("{}-bit codes with bias {} have no type here", scheme.type.bits, scheme.type.bias);
  if (!is_exact_in_float32(scheme.scale_dtype))
    return fmt::format("scales cannot be {}", info(scheme.scale_dtype).name);
  if (scheme.group_size && scheme.group_size->value < 1)
    return fmt::format("group_size {} is no number of rows", scheme.group_size->value);
  if (scheme.columns_per_scale < 0)
    return fmt::format("{} is no number of columns that share a scale", scheme.columns_per_scale);
  if (scheme.scales_divide) return "its scales divide; only fp8 files hold such scales";
  return std::nullopt;
}

std::optional<std::string> integer_refusal(const char* name, const Scheme& scheme, K k, N n) {
  if (auto why = common_refusal(scheme, k, n)) return why;
  if (!scheme.type.is_integer()) return fmt::format("{} holds integers, not {}", name, name_of(scheme.type));
  if (scheme.zero_points == ZeroPoints::floating)
    return fmt::format("{} holds integer zero points, not floating-point ones", name);
  if ((scheme.zero_points == ZeroPoints::integer) != (scheme.type.bias == 0))
    return fmt::format("{} codes {} stored zero points are no integers", name_of(scheme.type),
                       scheme.type.bias == 0 ? "without" : "with");
  if (scheme.global_scale != GlobalScale::none) return fmt::format("{} has no global scale", name);
  if (scheme.columns_per_scale != 1)
    return fmt::format("{} has a scale per column, not one for several", name);
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

void require_consistent(const QuantizedMatrix& q) {
  const std::int64_t groups = q.scheme.groups(q.k()).value;
  const auto check = [&](const char* what, std::int64_t rows, std::int64_t cols, bool wanted) {
    if (rows != (wanted ? groups : 0) || (wanted && cols != q.n().value))
      throw Error{ErrorKind::bad_input,
                  fmt::format("codes ({}, {}) with group_size {} need {} ({}, {}), not ({}, {})", q.k().value,
                              q.n().value, group_size_number(q.scheme), what, wanted ? groups : 0,
                              wanted ? q.n().value : 0, rows, cols)};
  };
  check("scales", q.scales.rows(), q.scales.cols(), true);
  check("zero points", q.zero_points.rows(), q.zero_points.cols(),
        q.scheme.zero_points == ZeroPoints::integer);
  check("float zeros", q.float_zeros.rows(), q.float_zeros.cols(),
        q.scheme.zero_points == ZeroPoints::floating);
  if (std::ssize(q.g_idx) != (q.scheme.act_order ? q.k().value : 0))
    throw Error{ErrorKind::bad_input, fmt::format("g_idx has {} rows", q.g_idx.size())};
  for (const std::int32_t group : q.g_idx)
    if (group < 0 || group >= groups)
      throw Error{ErrorKind::bad_input, fmt::format("g_idx: there is no group {}", group)};
}

Extents matrix_extents(const PartViews& parts, std::string_view suffix) {
  const Shape& shape = part_of(parts, suffix).shape;
  constexpr std::int64_t kMax = std::int64_t{1} << 34;  // 8-bit words of one row of tiles: 4 N
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1 || shape[0] > kMax || shape[1] > kMax)
    throw Error{ErrorKind::bad_input, fmt::format("{} has shape {}, no matrix", suffix, to_string(shape))};
  return {shape[0], shape[1]};
}

bool has_exactly(const PartViews& parts, std::initializer_list<std::string_view> suffixes,
                 std::initializer_list<std::string_view> optional) {
  for (std::string_view suffix : suffixes)
    if (!has_part(parts, suffix)) return false;
  const auto among = [](std::string_view suffix, std::initializer_list<std::string_view> list) {
    return std::ranges::find(list, suffix) != list.end();
  };
  return std::ranges::all_of(
      parts, [&](const auto& part) { return among(part.first, suffixes) || among(part.first, optional); });
}

std::optional<GroupSize> group_size_of(K k, std::int64_t groups, const Claims& claims) {
  if (groups == 1) return std::nullopt;
  const auto makes = [&](std::int64_t size) { return size > 0 && (k.value + size - 1) / size == groups; };
  if (claims.group_size && makes(*claims.group_size)) return GroupSize{*claims.group_size};
  if (k.value % groups != 0)
    throw Error{ErrorKind::bad_input, fmt::format("scales: {} groups do not divide K = {}", groups, k.value)};
  return GroupSize{k.value / groups};
}

std::uint32_t load_word(std::span<const std::byte> words, std::int64_t i) {
  std::uint32_t word;
  std::memcpy(&word, words.data() + i * 4, sizeof word);
  return word;
}

void store_word(std::span<std::byte> words, std::int64_t i, std::uint32_t word) {
  std::memcpy(words.data() + i * 4, &word, sizeof word);
}

/// A regular expression that matches this module name and nothing else.
std::string exactly(const std::string& module) {
  std::string pattern = "^";
  for (char c : module) {
    if (std::string_view{R"(.^$*+?()[]{}|\)"}.find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern + "$";
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

std::map<std::string, Scheme> real_exceptions(const CheckpointSchemes& schemes) {
  std::map<std::string, Scheme> real;
  for (const auto& [module, scheme] : schemes.exceptions) {
    if (schemes.unquantized.contains(module))
      throw Error{ErrorKind::bad_input, fmt::format("{} has a scheme and is unquantized", module)};
    if (scheme != schemes.common) real.emplace(module, scheme);
  }
  return real;
}

namespace {

/// What a module's own rule has to say. bits and group_size stand in every rule, the rest only where it
/// differs.
nlohmann::json gptq_rule(const Scheme& scheme, const Scheme& common) {
  const auto symmetric = [](const Scheme& s) { return s.zero_points == ZeroPoints::implied; };
  if (scheme.type.bits == common.type.bits && scheme.group_size == common.group_size &&
      symmetric(scheme) == symmetric(common) && scheme.act_order == common.act_order)
    return nlohmann::json::object();
  nlohmann::json rule{{"bits", scheme.type.bits}, {"group_size", group_size_number(scheme)}};
  if (symmetric(scheme) != symmetric(common)) rule["sym"] = symmetric(scheme);
  if (scheme.act_order != common.act_order) rule["desc_act"] = scheme.act_order;
  return rule;
}

}  // namespace

nlohmann::json gptq_config(const char* checkpoint_format, const CheckpointSchemes& checkpoint) {
  const CheckpointSchemes schemes = with_fused_names(checkpoint);
  nlohmann::json config = {{"quant_method", "gptq"},
                           {"checkpoint_format", checkpoint_format},
                           {"bits", schemes.common.type.bits},
                           {"group_size", group_size_number(schemes.common)},
                           {"desc_act", schemes.common.act_order},
                           {"sym", schemes.common.zero_points == ZeroPoints::implied},
                           {"lm_head", false}};
  // Readers take the first rule that matches; anchored at both ends, no two of ours match one name.
  nlohmann::json rules = nlohmann::json::object();
  for (const auto& [module, scheme] : real_exceptions(schemes))
    if (nlohmann::json rule = gptq_rule(scheme, schemes.common); !rule.empty())
      rules["+:" + exactly(module)] = std::move(rule);
  for (const std::string& module : schemes.unquantized)
    if (module != "lm_head") rules["-:" + exactly(module)] = nlohmann::json::object();
  if (!rules.empty()) config["dynamic"] = rules;
  return config;
}

}  // namespace mpk::formats
