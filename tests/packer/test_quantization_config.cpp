// What config.json says, and that its regular expressions mean the modules they were made for.

#include <regex.h>

#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"

using namespace mpk;
using namespace mpk::test;
using Json = nlohmann::json;

namespace {

const Scheme kCommon{kU4B8, GroupSize{128}, DType::F16};
const Scheme kWide{kU8B128, GroupSize{32}, DType::F16};

const CheckpointSchemes kMixed{kCommon,
                               {{"model.layers.0.mlp.down_proj", kWide},
                                {"model.layers.1.mlp.down_proj", kCommon},  // says nothing new
                                {"model.layers.10.mlp.down_proj", {kU4B8, std::nullopt, DType::F16}}},
                               {"lm_head", "model.layers.0.self_attn.v_proj"}};

Json config(const char* format, const CheckpointSchemes& schemes) {
  return weight_format_named(format)->quantization_config(schemes);
}

/// POSIX, because GCC 12 warns about std::regex under the sanitizers.
bool matches_from_start(const std::string& module, const std::string& pattern) {
  regex_t compiled;
  REQUIRE(regcomp(&compiled, pattern.c_str(), REG_EXTENDED) == 0);
  regmatch_t found;
  const bool matches = regexec(&compiled, module.c_str(), 1, &found, 0) == 0 && found.rm_so == 0;
  regfree(&compiled);
  return matches;
}

/// As the readers do it: negatives first, matched from the start of the name, first match wins.
/// nullopt: no rule; false: excluded; else the overriding object.
std::optional<Json> dynamic_rule(const Json& quantization, const std::string& module) {
  if (!quantization.contains("dynamic")) return std::nullopt;
  for (const std::string sign : {"-:", "+:"})
    for (const auto& [key, value] : quantization.at("dynamic").items())
      if (key.starts_with(sign) && matches_from_start(module, key.substr(2)))
        return sign == "-:" ? Json(false) : value;
  return std::nullopt;
}

}  // namespace

TEST_CASE("one scheme for all needs no rules", "[config]") {
  CHECK(config("gptq", {kCommon, {}, {"lm_head"}}) == Json{{"quant_method", "gptq"},
                                                           {"checkpoint_format", "gptq"},
                                                           {"bits", 4},
                                                           {"group_size", 128},
                                                           {"desc_act", false},
                                                           {"sym", true},
                                                           {"lm_head", false}});
  CHECK(config("marlin-original", {{kU4B8, std::nullopt, DType::F16}, {}, {}}) ==
        Json{{"quant_method", "gptq"},
             {"checkpoint_format", "marlin"},
             {"is_marlin_format", true},
             {"bits", 4},
             {"group_size", -1},
             {"desc_act", false},
             {"sym", true},
             {"lm_head", false}});
}

TEST_CASE("layers that differ get a rule that matches them alone", "[config]") {
  const Json gptq = config("gptq", kMixed);
  CHECK(gptq.at("dynamic").size() == 3);
  CHECK(gptq.at("dynamic").contains(R"(+:^model\.layers\.0\.mlp\.down_proj$)"));
  CHECK(dynamic_rule(gptq, "model.layers.0.mlp.down_proj") == Json{{"bits", 8}, {"group_size", 32}});
  CHECK(dynamic_rule(gptq, "model.layers.10.mlp.down_proj") == Json{{"bits", 4}, {"group_size", -1}});
  CHECK(dynamic_rule(gptq, "model.layers.0.self_attn.v_proj") == Json(false));
  for (const char* other : {"model.layers.1.mlp.down_proj", "model.layers.100.mlp.down_proj", "lm_head",
                            "model.layers.0.mlp.down_proj_2", "model.layers.0.self_attn.q_proj",
                            "modelxlayers.0.mlp.down_proj", "x.model.layers.0.mlp.down_proj"})
    CHECK(dynamic_rule(gptq, other) == std::nullopt);
}

TEST_CASE("every character of a module name stands for itself", "[config]") {
  const std::string strange = R"(a.b[0]{1}(x|y)^$*+?\z)";
  const Json gptq = config("gptq", {kCommon, {{strange, kWide}}, {}});
  CHECK(dynamic_rule(gptq, strange) == Json{{"bits", 8}, {"group_size", 32}});
}

TEST_CASE("scales of another dtype need no gptq rule, for none can say so", "[config]") {
  CHECK_FALSE(
      config("gptq", {kCommon, {{"a", {kU4B8, GroupSize{128}, DType::BF16}}}, {}}).contains("dynamic"));
}

TEST_CASE("the kernel layout names itself, so that no engine takes it for something else", "[config]") {
  CHECK(config("marlin", kMixed) == Json{{"quant_method", "marlin-pack"},
                                         {"checkpoint_format", "marlin"},
                                         {"type", "u4b8"},
                                         {"bits", 4},
                                         {"group_size", 128},
                                         {"scale_dtype", "F16"},
                                         {"zero_points", false},
                                         {"act_order", false},
                                         {"lm_head", false},
                                         {"overrides",
                                          {{"model.layers.0.mlp.down_proj",
                                            {{"type", "u8b128"},
                                             {"bits", 8},
                                             {"group_size", 32},
                                             {"scale_dtype", "F16"},
                                             {"zero_points", false},
                                             {"act_order", false}}},
                                           {"model.layers.10.mlp.down_proj",
                                            {{"type", "u4b8"},
                                             {"bits", 4},
                                             {"group_size", -1},
                                             {"scale_dtype", "F16"},
                                             {"zero_points", false},
                                             {"act_order", false}}}}},
                                         {"ignore", {"lm_head", "model.layers.0.self_attn.v_proj"}}});
}

TEST_CASE("a module cannot be quantized and unquantized", "[config]") {
  for (const WeightFormat& format : weight_formats()) {
    if (!format.writes()) continue;
    const auto contradiction = [&] { format.quantization_config({kCommon, {{"a.b", kWide}}, {"a.b"}}); };
    CHECK(mentions(error_of(ErrorKind::bad_input, contradiction), "a.b"));
  }
}

TEST_CASE("parts that engines fuse have their rule under the fused name too, if they agree", "[config]") {
  const CheckpointSchemes schemes{
      kCommon,
      {{"layers.0.mlp.gate_proj", kWide},
       {"layers.0.mlp.up_proj", kWide},
       {"layers.1.mlp.gate_proj", kWide},  // up_proj differs: no fused layer to speak of
       {"layers.2.self_attn.q_proj", kWide},
       {"layers.2.self_attn.k_proj", kWide},
       {"layers.2.self_attn.v_proj", {kU8B128, GroupSize{64}, DType::F16}}},
      {"layers.3.self_attn.q_proj", "layers.3.self_attn.k_proj", "layers.3.self_attn.v_proj"}};
  const Json quantization = config("gptq", schemes);
  CHECK(dynamic_rule(quantization, "layers.0.mlp.gate_up_proj") ==
        dynamic_rule(quantization, "layers.0.mlp.up_proj"));
  CHECK(dynamic_rule(quantization, "layers.0.mlp.gate_up_proj").has_value());
  CHECK(dynamic_rule(quantization, "layers.1.mlp.gate_up_proj") == std::nullopt);
  CHECK(dynamic_rule(quantization, "layers.2.self_attn.qkv_proj") == std::nullopt);
  CHECK(dynamic_rule(quantization, "layers.3.self_attn.qkv_proj") == Json(false));
}
