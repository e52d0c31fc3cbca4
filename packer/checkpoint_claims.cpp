#include "packer/checkpoint_claims.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/printable.hpp"
#include "packer/module_pattern.hpp"

namespace mpk {

namespace {

using nlohmann::json;

constexpr std::size_t kMaxRules = 1 << 18;
constexpr std::int64_t kMaxGroupSize = (std::int64_t{1} << 31) - 1;

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

/// A value as it stands in the file, cut if it is long.
std::string brief(const json& value) {
  if (value.is_structured() && value.size() > 8)
    return value.is_object() ? "a large object" : "a long list";  // dump() would write all of it first
  return printable(value.dump(-1, ' ', true, json::error_handler_t::replace), 80);
}

[[noreturn]] void reject(const std::string& where, const json& value, const std::string& expected) {
  throw Error{ErrorKind::bad_input, fmt::format("{} is {}, expected {}", where, brief(value), expected)};
}

/// A value and where it stands, for messages: "config.json: quantization_config.bits".
struct Place {
  const json* value;  ///< never null, may be JSON's null
  std::string where;

  bool is_there() const { return !value->is_null(); }

  const json::object_t& object() const {
    if (!value->is_object()) reject(where, *value, "an object");
    return value->get_ref<const json::object_t&>();
  }
  const json::array_t& list() const {
    if (!value->is_array()) reject(where, *value, "a list");
    return value->get_ref<const json::array_t&>();
  }
  const std::string& text() const {
    if (!value->is_string()) reject(where, *value, "a string");
    return value->get_ref<const std::string&>();
  }
  bool boolean() const {
    if (!value->is_boolean()) reject(where, *value, "true or false");
    return value->get<bool>();
  }
  std::int64_t integer(std::int64_t min, std::int64_t max) const {
    const bool fits = value->is_number_unsigned()
                          ? std::cmp_less_equal(value->get<std::uint64_t>(), max)
                          : value->is_number_integer() && value->get<std::int64_t>() <= max;
    if (!fits || value->get<std::int64_t>() < min)
      reject(where, *value, fmt::format("an integer from {} to {}", min, max));
    return value->get<std::int64_t>();
  }
  std::int64_t group_size() const {
    const std::int64_t size = integer(-1, kMaxGroupSize);
    if (size == 0) reject(where, *value, "-1 or a number of rows");
    return size;
  }
  int bits() const { return static_cast<int>(integer(1, 32)); }

  /// The member, or null.
  Place operator[](const char* key) const {
    static const json kAbsent;
    const auto& members = object();
    const auto found = members.find(key);
    return {found == members.end() ? &kAbsent : &found->second, where + "." + key};
  }
  Place element(std::size_t i) const { return {&list()[i], fmt::format("{}[{}]", where, i)}; }
};

std::optional<std::int64_t> group_size_in(const Place& place) {
  return place.is_there() ? std::optional{place.group_size()} : std::nullopt;
}
std::optional<bool> boolean_in(const Place& place) {
  return place.is_there() ? std::optional{place.boolean()} : std::nullopt;
}
std::optional<int> bits_in(const Place& place) {
  return place.is_there() ? std::optional{place.bits()} : std::nullopt;
}
std::string word_in(const Place& place, const char* otherwise = "") {
  return place.is_there() ? lower(place.text()) : otherwise;
}

/// [rows of the weight, its columns], or the old "128x128".
struct Block {
  std::int64_t outputs, inputs;
};
std::optional<Block> block_in(const Place& place) {
  if (!place.is_there()) return std::nullopt;
  if (place.value->is_string()) {
    const std::string& text = place.text();
    const auto x = text.find('x');
    const auto number = [&](std::string_view digits) -> std::int64_t {
      if (digits.empty() || digits.size() > 9 ||
          digits.find_first_not_of("0123456789") != std::string_view::npos ||
          std::stol(std::string{digits}) == 0)
        reject(place.where, *place.value, "two extents, as in [128, 128]");
      return std::stol(std::string{digits});
    };
    const std::string_view all = text;
    if (x == std::string::npos) reject(place.where, *place.value, "two extents, as in [128, 128]");
    return Block{number(all.substr(0, x)), number(all.substr(x + 1))};
  }
  if (place.list().size() != 2) reject(place.where, *place.value, "two extents, as in [128, 128]");
  return Block{place.element(0).integer(1, kMaxGroupSize), place.element(1).integer(1, kMaxGroupSize)};
}

// ---- several files, several spellings: one statement
// ---------------------------------------------------------

/// What the keys mean that have several names, and which keys say how weights are stored. Keys that are not
/// here are provenance, or for engines.
struct Key {
  const char* name;
  std::vector<const char*> spellings;
  bool is_word = false;    ///< compared without regard to case
  bool must_agree = true;  ///< else the first statement counts
};
const std::vector<Key>& keys() {
  static const std::vector<Key> table{
      {"quant_method", {"quant_method", "method"}, true},
      {"bits", {"bits", "w_bit", "wbits", "nbits"}},
      {"group_size", {"group_size", "q_group_size"}},
      {"desc_act", {"desc_act"}},
      {"sym", {"sym"}},
      {"checkpoint_format", {"checkpoint_format"}, true},
      {"format", {"format"}, true},
      {"is_marlin_format", {"is_marlin_format"}},
      {"pack_dtype", {"pack_dtype"}, true},
      {"dynamic", {"dynamic"}},
      {"zero_point", {"zero_point"}},
      {"version", {"version"}, true},
      {"backend", {"backend"}, true},
      {"config_groups", {"config_groups"}},
      {"fmt", {"fmt"}, true},
      {"weight_block_size", {"weight_block_size"}},
      {"weight_scale_semantics", {"weight_scale_semantics"}, true},
      {"quant_algo", {"quant_algo"}, true},
      {"quantized_layers", {"quantized_layers"}},
      {"quant_config", {"quant_config"}},
      {"weight_quant_params", {"weight_quant_params"}},
      {"axis", {"axis"}},
      {"type", {"type"}, true},
      {"activations", {"activations"}, true},
      {"zero_points", {"zero_points"}},
      {"act_order", {"act_order"}},
      {"activations", {"activations"}, true},
      {"overrides", {"overrides"}},
      {"lm_head", {"lm_head"}, false, false},
      {"ignore", {"ignore"}, false, false},
      {"exclude_modules", {"exclude_modules"}, false, false},
      {"modules_to_not_convert", {"modules_to_not_convert"}, false, false},
      {"ignored_layers", {"ignored_layers"}, false, false},
      {"skip_modules", {"skip_modules"}, false, false},
  };
  return table;
}

/// One object that configures a quantization.
struct Source {
  Place place;
  std::string file;
};

/// The objects that a file holds.
std::vector<Source> sources_of(const ConfigFile& file) {
  const Place root{&file.content, file.name + ": the top level"};
  std::vector<Source> found;
  const auto add = [&](const Place& parent, const std::string& path, const char* key) {
    if (parent[key].is_there())
      found.push_back({{parent[key].value, file.name + ": " + path + key}, file.name});
  };
  const std::string_view name = file.name;
  if (name.substr(name.rfind('/') + 1) == "hf_quant_config.json") {
    add(root, "", "quantization");
  } else if (std::ranges::any_of(kSideConfigNames, [&](std::string_view side) {
               return name.substr(name.rfind('/') + 1) == side;
             })) {
    found.push_back({{&file.content, file.name}, file.name});
  } else {
    add(root, "", "quantization_config");
    add(root, "", "compression_config");
    if (const Place text = root["text_config"]; text.is_there())
      add(text, "text_config.", "quantization_config");
  }
  for (const Source& source : found) source.place.object();  // or it is none
  return found;
}

/// For configurations that do not say their method: what their file or their keys tell.
std::string method_by(const std::string& file, const Place& source) {
  if (source["config_groups"].is_there()) return "compressed-tensors";
  if (source["quant_algo"].is_there()) return "modelopt";
  if (source["weight_quant_params"].is_there()) return "hqq";
  if (const Place nested = source["quant_config"]; nested.value->is_object()) return "hqq";
  if (source["weight_block_size"].is_there()) return "fp8";
  if (file.ends_with("hf_quant_config.json")) return "modelopt";
  if (source["zero_point"].is_there() || source["w_bit"].is_there()) return "awq";
  if (source["bits"].is_there() || source["wbits"].is_there()) return "gptq";
  return "";
}

/// The keys of all sources under their first names.
class Statement {
 public:
  explicit Statement(const std::vector<Source>& sources) {
    for (const Source& source : sources)
      for (const Key& key : keys())
        for (const char* spelling : key.spellings)
          if (const Place place = source.place[spelling]; place.is_there()) add(key, place);
    // GPTQModel repeats checkpoint_format as "format", which compressed-tensors uses for its own.
    if (const auto format = said_.find("format"); format != said_.end() && !said_.contains("config_groups")) {
      static const Key kFormat{"checkpoint_format", {}, true};
      add(kFormat, format->second);
      said_.erase("format");
    }
    for (const Source& source : sources)
      if (method_.empty() && !said_.contains("quant_method")) method_ = method_by(source.file, source.place);
    if (const Place place = (*this)["quant_method"]; place.is_there()) method_ = lower(place.text());
    if (method_.starts_with("modelopt")) method_ = "modelopt";
  }

  const std::string& method() const { return method_; }
  Place operator[](const char* key) const {
    static const json kAbsent;
    const auto found = said_.find(key);
    return found == said_.end() ? Place{&kAbsent, key} : found->second;
  }

 private:
  void add(const Key& key, const Place& place) {
    const auto [first, is_new] = said_.try_emplace(key.name, place);
    if (is_new || !key.must_agree) return;
    const json &a = *first->second.value, &b = *place.value;
    const bool agree = key.is_word && a.is_string() && b.is_string()
                           ? same_word(a.get_ref<const std::string&>(), b.get_ref<const std::string&>())
                           : a == b;
    if (!agree)
      throw Error{ErrorKind::bad_input, fmt::format("{} is {}, but {} is {}; remove the stale one",
                                                    first->second.where, brief(a), place.where, brief(b))};
  }
  static bool same_word(const std::string& a, const std::string& b) {
    const auto method = [](const std::string& text) {
      const std::string word = lower(text);
      return word.starts_with("modelopt") ? "modelopt" : word;
    };
    return method(a) == method(b);
  }

  std::map<std::string, Place, std::less<>> said_;
  std::string method_;
};

/// What both say; the rest is open.
Claims common_of(Claims a, const Claims& b) {
  const auto keep = [](auto& one, const auto& other) {
    if (one != other) one = {};
  };
  keep(a.dialect, b.dialect);
  keep(a.bits, b.bits);
  keep(a.group_size, b.group_size);
  keep(a.block_columns, b.block_columns);
  keep(a.symmetric, b.symmetric);
  keep(a.act_order, b.act_order);
  keep(a.type, b.type);
  keep(a.activations, b.activations);
  keep(a.scales_are_inverse, b.scales_are_inverse);
  return a;
}

}  // namespace

// ---- the dialects
// --------------------------------------------------------------------------------------------

struct CheckpointClaims::Rules {
  /// The most specific kind of rule that matches a module decides.
  enum class Precision { module, pattern, all };
  struct Rule {
    Precision precision;
    Claims claims;
  };
  Claims common;
  PatternSet patterns;  ///< of `rules`, by number
  std::vector<Rule> rules;
  PatternSet unquantized;
  bool rest_is_unquantized = false;  ///< modules without a rule
  std::string pack_dtype;            ///< if codes are not in words of 32 bits

  explicit Rules(const Statement& said) {
    common.method = said.method();
    common.scales_are_inverse = word_in(said["weight_scale_semantics"]) == "inverse";
    struct Dialect {
      const char* method;
      void (Rules::*read)(const Statement&);
    };
    static constexpr Dialect kDialects[] = {
        {"gptq", &Rules::read_gptq},
        {"marlin", &Rules::read_gptq},
        {"awq", &Rules::read_awq},
        {"compressed-tensors", &Rules::read_compressed_tensors},
        {"fp8", &Rules::read_fp8},
        {"modelopt", &Rules::read_modelopt},
        {"mxfp4", &Rules::read_mxfp4},
        {"hqq", &Rules::read_hqq},
        {"marlin-pack", &Rules::read_marlin_pack},
    };
    for (const Dialect& dialect : kDialects)
      if (dialect.method == common.method) (this->*dialect.read)(said);
  }

  void add_rule(ModulePattern pattern, Precision precision, Claims claims) {
    bound(patterns.size());
    patterns.add(std::move(pattern));
    rules.push_back({precision, std::move(claims)});
  }
  void exclude(ModulePattern pattern) {
    bound(unquantized.size());
    unquantized.add(std::move(pattern));
  }
  static void bound(std::size_t count) {
    if (count >= kMaxRules)
      throw Error{ErrorKind::unsupported, fmt::format("the configuration has more than {} rules", kMaxRules)};
  }
  /// A list of names, or null.
  void exclude_all(const Place& names, ModulePattern (*pattern)(std::string)) {
    if (!names.is_there()) return;
    for (std::size_t i = 0; i < names.list().size(); ++i) exclude(pattern(names.element(i).text()));
  }

  Claims claims_of(const std::string& module) const;
  bool excludes(const std::string& module) const {
    return unquantized.any(module) || (rest_is_unquantized && !patterns.any(module));
  }
  std::string summary() const;

  void read_integers(const Statement& said) {
    common.bits = bits_in(said["bits"]);
    common.group_size = group_size_in(said["group_size"]);
    common.symmetric = boolean_in(said["sym"]);
    common.act_order = boolean_in(said["desc_act"]);
  }

  void read_gptq(const Statement& said) {
    read_integers(said);
    const bool is_marlin = common.method == "marlin" || boolean_in(said["is_marlin_format"]).value_or(false);
    common.method = "gptq";
    common.dialect = word_in(said["checkpoint_format"], is_marlin ? "marlin" : "gptq");
    if (const std::string dtype = word_in(said["pack_dtype"], "int32"); dtype != "int32") pack_dtype = dtype;
    if (const auto head = boolean_in(said["lm_head"]); head && !*head)
      exclude(ModulePattern::ending("lm_head"));
    const Place dynamic = said["dynamic"];
    if (!dynamic.is_there()) return;
    for (const auto& [rule, value] : dynamic.object()) {
      const Place place{&value, fmt::format("{}[{}]", dynamic.where, in_quotes(rule))};
      within(place.where, [&, &rule = rule] {
        const bool is_signed = rule.starts_with("+:") || rule.starts_with("-:");
        ModulePattern pattern = ModulePattern::regex(is_signed ? rule.substr(2) : rule);
        if (rule.starts_with("-:")) return exclude(std::move(pattern));
        Claims claims = common;
        if (place.is_there()) {
          const auto override_with = [](auto& field, auto value_there) {
            if (value_there) field = value_there;
          };
          override_with(claims.bits, bits_in(place["bits"]));
          override_with(claims.group_size, group_size_in(place["group_size"]));
          override_with(claims.symmetric, boolean_in(place["sym"]));
          override_with(claims.act_order, boolean_in(place["desc_act"]));
        }
        add_rule(std::move(pattern), Precision::pattern, std::move(claims));
      });
    }
  }

  void read_awq(const Statement& said) {
    read_integers(said);
    common.dialect = word_in(said["version"], "gemm");
    if (word_in(said["backend"]) == "llm-awq") common.dialect = "gemv_fast";
    if (const auto asymmetric = boolean_in(said["zero_point"])) common.symmetric = !*asymmetric;
    exclude_all(said["modules_to_not_convert"], ModulePattern::fragment);
  }

  /// "Linear" and its kin, "re:" and a regular expression, or a module's name.
  static bool is_linear_class(std::string_view target) {
    return target == "Linear" || target == "LinearBase" || target == "FusedMoE";
  }
  void read_compressed_tensors(const Statement& said) {
    const std::string format = word_in(said["format"]);
    if (format != "mixed-precision") common.dialect = format;
    rest_is_unquantized = true;
    if (const Place names = said["ignore"]; names.is_there())
      for (std::size_t i = 0; i < names.list().size(); ++i) {
        const std::string& name = names.element(i).text();
        if (name.starts_with("re:"))
          within(names.where, [&] { exclude(ModulePattern::regex(name.substr(3))); });
        else
          exclude(ModulePattern::exactly(name));
      }
    const Place groups = said["config_groups"];
    if (!groups.is_there()) return;
    for (const auto& [name, value] : groups.object()) {
      const Place group{&value, groups.where + "." + printable(name)};
      if (!group["weights"].is_there()) continue;  // activations only
      const Claims claims = scheme_claims(group);
      const Place targets = group["targets"];
      if (!targets.is_there()) reject(targets.where, nullptr, "a list of modules");
      for (std::size_t i = 0; i < targets.list().size(); ++i) {
        const std::string& target = targets.element(i).text();
        if (target.starts_with("re:"))
          within(targets.where,
                 [&] { add_rule(ModulePattern::regex(target.substr(3)), Precision::pattern, claims); });
        else if (is_linear_class(target))
          add_rule(ModulePattern::every(), Precision::all, claims);
        else
          add_rule(ModulePattern::exactly(target), Precision::module, claims);
      }
    }
  }
  Claims scheme_claims(const Place& group) const {
    const Place weights = group["weights"];
    Claims claims = common;
    claims.dialect = word_in(group["format"], common.dialect.c_str());
    claims.bits = weights["num_bits"].is_there() ? weights["num_bits"].bits() : 8;
    claims.symmetric = boolean_in(weights["symmetric"]).value_or(true);
    const auto size = group_size_in(weights["group_size"]);
    const std::string strategy = word_in(weights["strategy"], !size         ? "tensor"
                                                              : *size == -1 ? "channel"
                                                                            : "group");
    if (strategy == "group" || strategy == "tensor_group") {
      claims.group_size = size;
    } else if (strategy == "block") {
      if (const auto block = block_in(weights["block_structure"])) {
        claims.group_size = block->inputs;
        claims.block_columns = block->outputs;
      }
    } else if (strategy == "channel") {
      claims.group_size = -1;
    }
    const Place order = weights["actorder"];
    claims.act_order = order.value->is_boolean() ? order.boolean()
                                                 : word_in(order) == "group" || word_in(order) == "dynamic";
    return claims;
  }

  void read_fp8(const Statement& said) {
    common.bits = 8;
    if (const std::string fmt = word_in(said["fmt"], "e4m3"); fmt != "e4m3" && fmt != "float8_e4m3fn")
      throw Error{ErrorKind::unsupported,
                  fmt::format("{} is {}; only e4m3 is read", said["fmt"].where, brief(*said["fmt"].value))};
    if (const auto block = block_in(said["weight_block_size"])) {
      common.group_size = block->inputs;
      common.block_columns = block->outputs;
    }
    exclude_all(said["modules_to_not_convert"], ModulePattern::fragment);
    exclude_all(said["ignored_layers"], ModulePattern::exactly);
  }

  static std::optional<int> bits_of_algorithm(std::string_view name) {
    struct Row {
      std::string_view start;
      int bits;
    };
    static constexpr Row kRows[] = {{"nvfp4", 4}, {"fp8", 8},  {"mxfp8", 8}, {"mxfp4", 4},
                                    {"w4", 4},    {"int4", 4}, {"w8", 8},    {"int8", 8}};
    for (const Row& row : kRows)
      if (name.starts_with(row.start)) return row.bits;
    return std::nullopt;
  }
  void read_modelopt(const Statement& said) {
    common.dialect = word_in(said["quant_algo"]);
    common.bits = bits_of_algorithm(common.dialect);
    common.group_size = group_size_in(said["group_size"]);
    exclude_all(said["exclude_modules"], ModulePattern::wildcard);
    exclude_all(said["ignore"], ModulePattern::wildcard);
    // The groups repeat the algorithm in compressed-tensors' words; one of them says it for all.
    if (const Place groups = said["config_groups"]; groups.is_there() && groups.object().size() == 1) {
      const auto& [name, group] = *groups.object().begin();
      const Place place{&group, groups.where + "." + printable(name)};
      if (const Place weights = place["weights"]; weights.is_there()) {
        if (!common.bits) common.bits = bits_in(weights["num_bits"]);
        if (!common.group_size) common.group_size = group_size_in(weights["group_size"]);
      }
    }
    if (common.dialect != "mixed_precision") return;
    rest_is_unquantized = true;
    const Place layers = said["quantized_layers"];
    if (!layers.is_there()) return;
    for (const auto& [module, value] : layers.object()) {
      const Place layer{&value, fmt::format("{}[{}]", layers.where, in_quotes(module))};
      Claims claims = common;
      claims.dialect = word_in(layer["quant_algo"]);
      claims.bits = bits_of_algorithm(claims.dialect);
      claims.group_size = group_size_in(layer["group_size"]);
      add_rule(ModulePattern::exactly(module), Precision::module, std::move(claims));
    }
  }

  void read_mxfp4(const Statement& said) {
    common.bits = 4;
    common.group_size = 32;
    exclude_all(said["modules_to_not_convert"], [](std::string name) {
      return name.find('*') == std::string::npos ? ModulePattern::fragment(std::move(name))
                                                 : ModulePattern::wildcard(name + "*");
    });
  }

  static Claims hqq_claims(Claims claims, const Place& parameters) {
    if (const auto bits = bits_in(parameters["nbits"])) claims.bits = bits;
    if (const auto size = group_size_in(parameters["group_size"])) claims.group_size = size;
    if (parameters["axis"].is_there())
      claims.dialect = parameters["axis"].integer(0, 1) == 0 ? "axis0" : "axis1";
    return claims;
  }
  void read_hqq(const Statement& said) {
    common.bits = bits_in(said["bits"]);
    common.group_size = group_size_in(said["group_size"]);
    if (said["axis"].is_there()) common.dialect = said["axis"].integer(0, 1) == 0 ? "axis0" : "axis1";
    const char* const kParameters = "weight_quant_params";
    if (said[kParameters].is_there()) common = hqq_claims(common, said[kParameters]);
    const Place nested = said["quant_config"];
    if (nested.is_there() && nested[kParameters].is_there()) {
      common = hqq_claims(common, nested[kParameters]);
    } else if (nested.is_there()) {  // one object per kind of layer: "self_attn.q_proj"
      for (const auto& [layer, value] : nested.object()) {
        const Place place{&value, fmt::format("{}[{}]", nested.where, in_quotes(layer))};
        if (!place.is_there()) {
          exclude(ModulePattern::ending(layer));
          continue;
        }
        const Place parameters = place.object().contains(kParameters) ? place[kParameters] : place;
        if (parameters.is_there())
          add_rule(ModulePattern::ending(layer), Precision::pattern, hqq_claims(common, parameters));
      }
    }
    exclude_all(said["skip_modules"], ModulePattern::fragment);
  }

  static Claims own_claims(Claims claims, const Place& place) {
    if (const auto bits = bits_in(place["bits"])) claims.bits = bits;
    if (const auto size = group_size_in(place["group_size"])) claims.group_size = size;
    if (const auto order = boolean_in(place["act_order"])) claims.act_order = order;
    if (const auto zeros = boolean_in(place["zero_points"])) claims.symmetric = !*zeros;
    if (const Place name = place["activations"]; name.is_there()) {
      claims.activations = dtype_named(name.text());
      if (!claims.activations) reject(name.where, *name.value, "the name of a dtype, as BF16");
    }
    if (const Place name = place["type"]; name.is_there()) {
      claims.type = scalar_type_named(name.text());
      if (!claims.type) reject(name.where, *name.value, "the name of a type, as u4b8");
    }
    if (const Place name = place["activations"]; name.is_there()) {
      claims.activations = dtype_named(name.text());
      if (!claims.activations) reject(name.where, *name.value, "the name of a dtype, as F16");
    }
    return claims;
  }
  void read_marlin_pack(const Statement& said) {
    read_integers(said);
    common.dialect = word_in(said["checkpoint_format"], "marlin");
    json own = json::object();  // the keys that a module of its own repeats
    for (const char* key : {"bits", "group_size", "act_order", "zero_points", "type", "activations"})
      if (said[key].is_there()) own[key] = *said[key].value;
    common = own_claims(common, {&own, "quantization_config"});
    exclude_all(said["ignore"], ModulePattern::exactly);
    const Place overrides = said["overrides"];
    if (!overrides.is_there()) return;
    for (const auto& [module, value] : overrides.object()) {
      const Place place{&value, fmt::format("{}[{}]", overrides.where, in_quotes(module))};
      Claims claims = common;
      claims.type.reset();  // of another scheme
      claims.activations.reset();
      add_rule(ModulePattern::exactly(module), Precision::module, own_claims(claims, place));
    }
  }
};

Claims CheckpointClaims::Rules::claims_of(const std::string& module) const {
  Claims excluded;
  excluded.method = common.method;
  excluded.dialect = common.dialect;
  if (unquantized.any(module)) return excluded;
  const std::vector<std::size_t> matching = patterns.matching(module);
  if (matching.empty() && rest_is_unquantized) return excluded;
  if (!pack_dtype.empty())
    throw Error{ErrorKind::unsupported,
                fmt::format("pack_dtype is {}: codes in words of another size than int32 are not read",
                            in_quotes(pack_dtype))};
  if (matching.empty()) return common;
  Precision best = Precision::all;
  for (const std::size_t number : matching) best = std::min(best, rules[number].precision);
  std::optional<Claims> agreed;
  for (const std::size_t number : matching)
    if (const Rule& rule = rules[number]; rule.precision == best)
      agreed = agreed ? common_of(*agreed, rule.claims) : rule.claims;
  return *agreed;
}

std::string CheckpointClaims::Rules::summary() const {
  // A configuration of rules alone is described by what they agree on.
  Claims typical = common;
  if (rest_is_unquantized && !rules.empty()) {
    typical = rules.front().claims;
    for (const Rule& rule : rules) typical = common_of(typical, rule.claims);
  }
  std::string text = typical.dialect.starts_with(typical.method)
                         ? typical.dialect
                         : typical.method + (typical.dialect.empty() ? "" : " " + typical.dialect);
  if (typical.type)
    text += fmt::format(" {}", name_of(*typical.type));
  else if (typical.bits)
    text += fmt::format(" {}-bit", *typical.bits);
  if (typical.block_columns && typical.group_size)
    text += fmt::format(" blocks {}x{}", *typical.block_columns, *typical.group_size);
  else if (typical.group_size)
    text += *typical.group_size == -1 ? " one group" : fmt::format(" group {}", *typical.group_size);
  if (typical.symmetric && typical.dialect.find("float") == std::string::npos &&
      typical.dialect.find("fp") == std::string::npos)
    text += *typical.symmetric ? " sym" : " asym";
  if (typical.act_order.value_or(false)) text += " act-order";
  if (rest_is_unquantized ? rules.size() > 1 : !rules.empty())
    text += fmt::format(", {} rule{}", rules.size(), rules.size() == 1 ? "" : "s");
  return printable(text);
}

CheckpointClaims CheckpointClaims::from(std::span<const ConfigFile> files) {
  std::vector<Source> sources;
  const auto is_side = [](const ConfigFile& file) {
    return std::ranges::any_of(kSideConfigNames, [&](const char* side) { return file.name.ends_with(side); });
  };
  for (const bool side : {false, true})  // config.json's word first
    for (const ConfigFile& file : files)
      if (is_side(file) == side)
        for (Source& source : sources_of(file)) sources.push_back(std::move(source));
  CheckpointClaims claims;
  if (sources.empty()) return claims;
  const Statement said{sources};
  if (!said.method().empty()) claims.rules_ = std::make_shared<const Rules>(said);
  return claims;
}

Claims CheckpointClaims::of(const std::string& module) const {
  return rules_ ? rules_->claims_of(module) : Claims{};
}

bool CheckpointClaims::says_unquantized(const std::string& module) const {
  return rules_ && rules_->excludes(module);
}

std::optional<std::string> CheckpointClaims::summary() const {
  return rules_ ? std::optional{rules_->summary()} : std::nullopt;
}

}  // namespace mpk
