// Each dialect's configuration, real ones and made ones, resolved per module.

#include <filesystem>
#include <iterator>

#include "packer/checkpoint_claims.hpp"
#include "packer/io/json_file.hpp"
#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;
using Json = nlohmann::json;

namespace {

const std::string kDown = "model.layers.1.mlp.down_proj";
const std::string kValue0 = "model.layers.0.self_attn.v_proj";

CheckpointClaims claims_from(const Json& quantization) {
  const ConfigFile file{"config.json", {{"quantization_config", quantization}}};
  return CheckpointClaims::from({&file, 1});
}
CheckpointClaims claims_from_text(const char* quantization) {
  return claims_from(Json::parse(quantization));
}

/// tests/golden/configs/NAME, every file.
CheckpointClaims golden_claims(const std::string& name) {
  std::vector<ConfigFile> files;
  for (const auto& entry : std::filesystem::directory_iterator{golden("configs/" + name)})
    files.push_back({entry.path().filename().string(), read_json_file(entry.path())});
  return CheckpointClaims::from(files);
}

struct Expected {
  const char* checkpoint;
  std::string module;
  const char *method, *dialect;
  std::optional<int> bits;
  std::optional<std::int64_t> group_size;
  std::optional<bool> symmetric, act_order;
  const char* summary;
};

const std::vector<Expected> kReal = {
    {"gptq-v1-sym-g128", kDown, "gptq", "gptq", 4, 128, true, false, "gptq 4-bit group 128 sym"},
    {"gptq-v1-sym-g128-desc_act", kDown, "gptq", "gptq", 4, 128, true, true,
     "gptq 4-bit group 128 sym act-order"},
    {"gptq-v2-asym-g32-bias", kDown, "gptq", "gptq_v2", 4, 32, false, false, "gptq_v2 4-bit group 32 asym"},
    {"gptq-v1-dynamic-8bit-down", kDown, "gptq", "gptq", 8, 32, true, false,
     "gptq 4-bit group 128 sym, 1 rule"},
    {"gptq-v1-dynamic-8bit-down", "model.layers.1.mlp.up_proj", "gptq", "gptq", 4, 128, true, false,
     "gptq 4-bit group 128 sym, 1 rule"},
    {"gptq-v1-sym-g128-moe", "model.layers.0.mlp.experts.3.up_proj", "gptq", "gptq", 4, 128, true, false,
     "gptq 4-bit group 128 sym"},
    {"gptq-v1-sym-autoround", kDown, "gptq", "gptq", 4, 128, true, false, "gptq 4-bit group 128 sym"},
    {"awq-gemm-asym-g128", kDown, "awq", "gemm", 4, 128, false, {}, "awq gemm 4-bit group 128 asym"},
    {"awq-gemv-asym-g64", kDown, "awq", "gemv", 4, 64, false, {}, "awq gemv 4-bit group 64 asym"},
    {"awq-marlin-sym-g128", kDown, "awq", "marlin", 4, 128, true, {}, "awq marlin 4-bit group 128 sym"},
    {"ct-int4-sym-g128", kDown, "compressed-tensors", "pack-quantized", 4, 128, true, false,
     "compressed-tensors pack-quantized 4-bit group 128 sym"},
    {"ct-int4-asym-g32-bias", kDown, "compressed-tensors", "pack-quantized", 4, 32, false, false,
     "compressed-tensors pack-quantized 4-bit group 32 asym"},
    {"ct-int8-channel", kDown, "compressed-tensors", "pack-quantized", 8, -1, true, false,
     "compressed-tensors pack-quantized 8-bit one group sym"},
    {"ct-w8a8-bias", kDown, "compressed-tensors", "int-quantized", 8, -1, true, false,
     "compressed-tensors int-quantized 8-bit one group sym"},
    {"ct-fp8-channel", kDown, "compressed-tensors", "float-quantized", 8, -1, true, false,
     "compressed-tensors float-quantized 8-bit one group"},
    {"ct-nvfp4-weights", kDown, "compressed-tensors", "nvfp4-pack-quantized", 4, 16, true, false,
     "compressed-tensors nvfp4-pack-quantized 4-bit group 16"},
};

std::string refused(const Json& quantization, ErrorKind kind = ErrorKind::bad_input) {
  return error_of(kind, [&] { claims_from(quantization); });
}

}  // namespace

TEST_CASE("the configurations of real checkpoints", "[claims]") {
  const Expected e = GENERATE(from_range(kReal));
  CAPTURE(e.checkpoint, e.module);
  const CheckpointClaims claims = golden_claims(e.checkpoint);
  const Claims found = claims.of(e.module);
  CHECK(found.method == e.method);
  CHECK(found.dialect == e.dialect);
  CHECK(found.bits == e.bits);
  CHECK(found.group_size == e.group_size);
  CHECK(found.symmetric == e.symmetric);
  CHECK(found.act_order == e.act_order);
  CHECK_FALSE(found.type);
  CHECK_FALSE(found.block_columns);
  CHECK_FALSE(found.scales_are_inverse);
  CHECK(claims.summary() == e.summary);
  CHECK_FALSE(claims.says_unquantized(e.module));
  if (e.method != std::string{"awq"}) CHECK(claims.says_unquantized("lm_head"));
}

TEST_CASE("a real rule excludes a module", "[claims]") {
  const CheckpointClaims claims = golden_claims("gptq-v1-dynamic-8bit-down");
  CHECK(claims.says_unquantized(kValue0));
  CHECK(claims.of(kValue0).method == "gptq");
  CHECK_FALSE(claims.of(kValue0).bits);
  CHECK_FALSE(claims.says_unquantized("model.layers.1.self_attn.v_proj"));
}

TEST_CASE("no configuration, no claims", "[claims]") {
  const CheckpointClaims none;
  CHECK(none.of(kDown).method.empty());
  CHECK_FALSE(none.summary());
  CHECK_FALSE(none.says_unquantized(kDown));
  const ConfigFile file{"config.json", {{"architectures", {"LlamaForCausalLM"}}}};
  CHECK_FALSE(CheckpointClaims::from({&file, 1}).summary());
  CHECK_FALSE(claims_from(nullptr).summary());
  CHECK_FALSE(claims_from(Json::object()).summary());
  const CheckpointClaims other =
      claims_from_text(R"({"quant_method": "bitsandbytes", "load_in_4bit": true})");
  CHECK(other.of(kDown).method == "bitsandbytes");
  CHECK(other.summary() == "bitsandbytes");
}

TEST_CASE("GPTQ's old spellings", "[claims]") {
  const Claims old = claims_from_text(R"({"quant_method": "marlin", "bits": 4, "group_size": -1})").of(kDown);
  CHECK(old.method == "gptq");
  CHECK(old.dialect == "marlin");
  CHECK(old.group_size == -1);
  CHECK_FALSE(old.symmetric);
  CHECK(
      claims_from_text(R"({"quant_method": "gptq", "bits": 4, "is_marlin_format": true})").of("a").dialect ==
      "marlin");
  CHECK(claims_from_text(R"({"quant_method": "gptq", "format": "GPTQ_V2"})").of("a").dialect == "gptq_v2");
  const Claims short_names = claims_from_text(R"({"wbits": 3, "q_group_size": 64})").of("a");
  CHECK(short_names.method == "gptq");
  CHECK(short_names.bits == 3);
  CHECK(short_names.group_size == 64);
}

TEST_CASE("codes in words of another size are refused when a module asks", "[claims]") {
  const CheckpointClaims claims = claims_from_text(
      R"({"quant_method": "gptq", "bits": 4, "pack_dtype": "int16", "lm_head": false, "dynamic": {"-:a.*": {}}})");
  CHECK(mentions(error_of(ErrorKind::unsupported, [&] { claims.of(kDown); }), "int16"));
  CHECK_NOTHROW(claims.of("lm_head"));
  CHECK_NOTHROW(claims.of("a.b"));
  CHECK_NOTHROW(claims_from_text(R"({"quant_method": "gptq", "bits": 4, "pack_dtype": "int32"})").of(kDown));
}

TEST_CASE("dynamic rules match from the start, negatives first", "[claims]") {
  const CheckpointClaims claims = claims_from_text(R"json({
      "quant_method": "gptq", "bits": 4, "group_size": 128, "sym": true, "desc_act": false, "dynamic": {
        "-:model\\.layers\\.(?:0|3)\\.": {},
        "+:model\\.layers\\.\\d+\\.mlp": {"bits": 8},
        "model\\.layers\\.7\\.self_attn": {"group_size": 32, "sym": false, "desc_act": true},
        "+:^model\\.layers\\.9\\.mlp\\.up_proj$": {"bits": 8, "group_size": -1},
        "+:.*lm_head": null}})json");
  CHECK(claims.says_unquantized("model.layers.0.mlp.up_proj"));
  CHECK(claims.says_unquantized("model.layers.3.mlp.up_proj"));
  CHECK_FALSE(claims.says_unquantized("x.model.layers.0.mlp.up_proj"));
  CHECK(claims.of("x.model.layers.0.mlp.up_proj").bits == 4);
  CHECK(claims.of("model.layers.10.mlp.up_proj").bits == 8);
  CHECK(claims.of("model.layers.10.mlp.up_proj").group_size == 128);
  const Claims attention = claims.of("model.layers.7.self_attn.q_proj");
  CHECK(attention.bits == 4);
  CHECK(attention.group_size == 32);
  CHECK(attention.symmetric == false);
  CHECK(attention.act_order == true);

  SECTION("rules that disagree leave the field open, for their order is lost") {
    const Claims both = claims.of("model.layers.9.mlp.up_proj");
    CHECK(both.bits == 8);
    CHECK_FALSE(both.group_size);
    CHECK(both.symmetric == true);
  }
}

TEST_CASE("what GPTQ's writer writes is what is claimed", "[claims]") {
  const CheckpointSchemes schemes{{kU4B8, GroupSize{128}, DType::F16},
                                  {{"model.layers.0.mlp.down_proj", {kU8B128, GroupSize{32}, DType::F16}},
                                   {"a.b[0]{1}(x|y)^$*+?\\z", {kU8B128, std::nullopt, DType::F16}}},
                                  {"lm_head", "model.layers.1.mlp.up_proj"}};
  const CheckpointClaims claims = claims_from(weight_format_named("gptq")->quantization_config(schemes));
  CHECK(claims.of("model.layers.0.mlp.down_proj").bits == 8);
  CHECK(claims.of("model.layers.0.mlp.down_proj").group_size == 32);
  CHECK(claims.of("model.layers.0.mlp.down_proj_2").bits == 4);
  CHECK(claims.of("modelxlayers.0.mlp.down_proj").bits == 4);
  CHECK(claims.of("a.b[0]{1}(x|y)^$*+?\\z").group_size == -1);
  CHECK(claims.says_unquantized("lm_head"));
  CHECK(claims.says_unquantized("model.layers.1.mlp.up_proj"));
}

TEST_CASE("AWQ's dialects", "[claims]") {
  const Claims plain =
      claims_from_text(R"({"quant_method": "awq", "bits": 4, "version": "GEMV_fast"})").of("a");
  CHECK(plain.dialect == "gemv_fast");
  CHECK_FALSE(plain.symmetric);
  CHECK(claims_from_text(R"({"quant_method": "awq", "version": "gemm", "backend": "llm-awq"})")
            .of("a")
            .dialect == "gemv_fast");
  const CheckpointClaims excluding =
      claims_from_text(R"({"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["visual", "gate"]})");
  CHECK(excluding.says_unquantized("model.visual.blocks.0.fc1"));
  CHECK_FALSE(excluding.says_unquantized(kDown));
  const ConfigFile old{"quant_config.json",
                       {{"zero_point", true}, {"q_group_size", 128}, {"w_bit", 4}, {"version", "GEMM"}}};
  const Claims side = CheckpointClaims::from({&old, 1}).of(kDown);
  CHECK(side.method == "awq");
  CHECK(side.dialect == "gemm");
  CHECK(side.bits == 4);
  CHECK(side.group_size == 128);
  CHECK(side.symmetric == false);
}

TEST_CASE("compressed-tensors: targets, formats and strategies", "[claims]") {
  const CheckpointClaims claims = claims_from_text(R"json({
      "quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": {
        "group_0": {"targets": ["Linear"], "format": "pack-quantized",
                    "weights": {"num_bits": 4, "strategy": "group", "group_size": 128, "actorder": "group"}},
        "group_1": {"targets": ["re:.*down_proj$"], "format": "float-quantized",
                    "weights": {"type": "float", "strategy": "block", "block_structure": [128, 64]}},
        "group_2": {"targets": ["model.layers.5.mlp.down_proj"], "format": "int-quantized",
                    "weights": {"num_bits": 8, "symmetric": false, "group_size": -1}},
        "group_3": {"targets": ["Embedding"], "weights": null}},
      "ignore": ["lm_head", "re:.*\\.gate$"]})json");
  const Claims linear = claims.of("model.layers.0.mlp.up_proj");
  CHECK(linear.dialect == "pack-quantized");
  CHECK(linear.bits == 4);
  CHECK(linear.group_size == 128);
  CHECK(linear.act_order == true);
  const Claims block = claims.of("model.layers.0.mlp.down_proj");
  CHECK(block.dialect == "float-quantized");
  CHECK(block.bits == 8);
  CHECK(block.group_size == 64);
  CHECK(block.block_columns == 128);
  const Claims exact = claims.of("model.layers.5.mlp.down_proj");
  CHECK(exact.dialect == "int-quantized");
  CHECK(exact.group_size == -1);
  CHECK(exact.symmetric == false);
  CHECK(claims.says_unquantized("lm_head"));
  CHECK(claims.says_unquantized("model.layers.0.mlp.gate"));
  CHECK(claims.of("model.layers.0.mlp.gate").method == "compressed-tensors");
  CHECK_FALSE(claims.of("model.layers.0.mlp.gate").bits);
  CHECK(claims.summary() == "compressed-tensors, 3 rules");

  SECTION("without a class, only what is named is quantized") {
    const CheckpointClaims named = claims_from_text(R"json({
        "quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {
          "group_0": {"targets": ["re:.*mlp.*"], "weights": {"strategy": "block", "block_structure": "128x128"}}}})json");
    CHECK(named.says_unquantized("model.layers.0.self_attn.q_proj"));
    CHECK(named.of("model.layers.0.mlp.up_proj").block_columns == 128);
    CHECK(named.summary() == "compressed-tensors float-quantized 8-bit blocks 128x128");
  }
  SECTION("the old name of the configuration, in the part for text") {
    const Json group{{"targets", {"Linear"}}, {"weights", {{"num_bits", 4}, {"group_size", 32}}}};
    const Json quantization{{"quant_method", "compressed-tensors"},
                            {"format", "pack-quantized"},
                            {"config_groups", {{"group_0", group}}}};
    for (const Json& config : {Json{{"compression_config", quantization}},
                               Json{{"text_config", {{"quantization_config", quantization}}}}}) {
      const ConfigFile file{"config.json", config};
      CHECK(CheckpointClaims::from({&file, 1}).of(kDown).group_size == 32);
    }
  }
}

TEST_CASE("FP8's dialects", "[claims]") {
  const CheckpointClaims blocks = claims_from_text(
      R"({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 64],
          "modules_to_not_convert": ["lm_head"]})");
  CHECK(blocks.of(kDown).bits == 8);
  CHECK(blocks.of(kDown).group_size == 64);
  CHECK(blocks.of(kDown).block_columns == 128);
  CHECK_FALSE(blocks.of(kDown).scales_are_inverse);
  CHECK(blocks.says_unquantized("lm_head"));
  CHECK(blocks.summary() == "fp8 8-bit blocks 128x64");
  const CheckpointClaims whole = claims_from_text(
      R"({"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]})");
  CHECK_FALSE(whole.of(kDown).group_size);
  CHECK(whole.says_unquantized("lm_head"));
  CHECK(claims_from_text(
            R"({"quant_method": "fp8", "weight_scale_semantics": "inverse", "weight_scale_method": "row"})")
            .of(kDown)
            .scales_are_inverse);
  CHECK(mentions(refused({{"quant_method", "fp8"}, {"fmt", "e5m2"}}, ErrorKind::unsupported), "e5m2"));
}

TEST_CASE("ModelOpt's file and its twin", "[claims]") {
  const Json side = Json::parse(R"({"producer": {"name": "modelopt", "version": "x"},
      "quantization": {"quant_algo": "NVFP4", "group_size": 16, "kv_cache_quant_algo": "FP8",
                       "exclude_modules": ["lm_head", "model.layers.*.self_attn*"]}})");
  const Json twin = Json::parse(R"({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4",
      "config_groups": {"group_0": {"targets": ["Linear"],
         "weights": {"num_bits": 4, "type": "float", "group_size": 16, "dynamic": false}}}, "ignore": ["lm_head"]}})");
  const std::vector<ConfigFile> both{{"hf_quant_config.json", side}, {"config.json", twin}};
  for (const auto& files : {both, std::vector{both[0]}, std::vector{both[1]}}) {
    const CheckpointClaims claims = CheckpointClaims::from(files);
    CHECK(claims.of(kDown).method == "modelopt");
    CHECK(claims.of(kDown).dialect == "nvfp4");
    CHECK(claims.of(kDown).bits == 4);
    CHECK(claims.of(kDown).group_size == 16);
    CHECK(claims.says_unquantized("lm_head"));
    CHECK(claims.summary() == "modelopt nvfp4 4-bit group 16");
  }
  const CheckpointClaims claims = CheckpointClaims::from({&both[0], 1});
  CHECK(claims.says_unquantized("model.layers.11.self_attn.q_proj"));
  CHECK_FALSE(claims.says_unquantized("model.layers.11.mlp.up_proj"));

  const CheckpointClaims mixed =
      claims_from_text(R"({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION",
      "quantized_layers": {"model.layers.1.mlp.down_proj": {"quant_algo": "FP8"},
                           "model.layers.0.self_attn.v_proj": {"quant_algo": "W4A16_NVFP4", "group_size": 16}}})");
  CHECK(mixed.of(kDown).dialect == "fp8");
  CHECK(mixed.of(kDown).bits == 8);
  CHECK(mixed.of(kValue0).dialect == "w4a16_nvfp4");
  CHECK(mixed.of(kValue0).group_size == 16);
  CHECK(mixed.says_unquantized("model.layers.2.mlp.down_proj"));
}

TEST_CASE("MXFP4 and HQQ", "[claims]") {
  const CheckpointClaims mx = claims_from_text(
      R"({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]})");
  CHECK(mx.of("model.layers.0.mlp.experts").bits == 4);
  CHECK(mx.of("model.layers.0.mlp.experts").group_size == 32);
  CHECK(mx.says_unquantized("model.layers.17.self_attn.q_proj"));
  CHECK(mx.says_unquantized("lm_head"));

  for (
      const char* spelling :
      {R"({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 3, "group_size": 64, "axis": 1}}})",
       R"({"quant_method": "hqq", "weight_quant_params": {"nbits": 3, "group_size": 64, "axis": 1}})",
       R"({"quant_method": "hqq", "nbits": 3, "group_size": 64, "axis": 1})"}) {
    const CheckpointClaims hqq = claims_from_text(spelling);
    CHECK(hqq.of(kDown).bits == 3);
    CHECK(hqq.of(kDown).group_size == 64);
    CHECK(hqq.of(kDown).dialect == "axis1");
  }
  const CheckpointClaims kinds = claims_from_text(
      R"({"quant_method": "hqq", "skip_modules": ["lm_head"], "quant_config": {
          "self_attn.v_proj": {"weight_quant_params": {"nbits": 8, "group_size": 128, "axis": 0}},
          "mlp.down_proj": {"nbits": 2, "group_size": 16}, "mlp.gate": null}})");
  CHECK(kinds.of(kValue0).bits == 8);
  CHECK(kinds.of(kValue0).dialect == "axis0");
  CHECK(kinds.of(kDown).bits == 2);
  CHECK(kinds.says_unquantized("model.layers.0.mlp.gate"));
  CHECK(kinds.says_unquantized("lm_head"));
}

TEST_CASE("an artifact of our own", "[claims]") {
  const CheckpointSchemes schemes{
      {kU4B8, GroupSize{128}, DType::F16}, {{kDown, {kU8B128, GroupSize{32}, DType::F16}}}, {"lm_head"}};
  Json quantization = weight_format_named("marlin")->quantization_config(schemes);
  CheckpointClaims claims = claims_from(quantization);
  CHECK(claims.of(kValue0).method == "marlin-pack");
  CHECK(claims.of(kValue0).bits == 4);
  CHECK(claims.of(kValue0).group_size == 128);
  CHECK(claims.of(kDown).bits == 8);
  CHECK(claims.of(kDown).group_size == 32);
  CHECK(claims.says_unquantized("lm_head"));

  quantization["type"] = "u4";
  quantization["zero_points"] = true;
  quantization["act_order"] = true;
  quantization["activations"] = "I8";
  quantization["overrides"][kDown]["type"] = "e4m3";
  quantization["overrides"][kDown]["activations"] = "BF16";
  quantization["overrides"][kDown]["act_order"] = false;
  claims = claims_from(quantization);
  CHECK(claims.of(kValue0).type == kU4);
  CHECK(claims.of(kValue0).activations == DType::I8);
  CHECK(claims.of(kValue0).symmetric == false);
  CHECK(claims.of(kValue0).act_order == true);
  CHECK(claims.of(kDown).type == kE4M3);
  CHECK(claims.of(kDown).activations == DType::BF16);
  CHECK(claims.of(kDown).act_order == false);
  quantization["type"] = "u9";
  CHECK(mentions(refused(quantization), "u9"));
}

TEST_CASE("two files that disagree are named with the field", "[claims]") {
  const ConfigFile config{
      "config.json", {{"quantization_config", {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 128}}}}};
  const auto with_side = [&](const Json& side, const char* name = "quantize_config.json") {
    const std::vector<ConfigFile> files{{name, side}, config};
    return CheckpointClaims::from(files);
  };
  CHECK(with_side({{"bits", 4}, {"group_size", 128}, {"damp_percent", 0.1}}).of(kDown).bits == 4);
  CHECK(with_side({{"desc_act", true}}).of(kDown).act_order ==
        true);  // the second adds what the first leaves out
  CHECK(with_side({{"quant_method", "GPTQ"}}).of(kDown).bits == 4);
  for (const auto& [side, key] :
       std::vector<std::pair<Json, std::string>>{{{{"bits", 8}}, "bits"},
                                                 {{{"w_bit", 8}}, "w_bit"},
                                                 {{{"group_size", 64}}, "group_size"},
                                                 {{{"quant_method", "awq"}}, "quant_method"}}) {
    const std::string text = error_of(ErrorKind::bad_input, [&, &file = side] { with_side(file); });
    CAPTURE(text);
    CHECK(mentions(text, "config.json: "));
    CHECK(mentions(text, "quantize_config.json." + key));
  }
  CHECK(mentions(refused({{"quant_method", "gptq"}, {"bits", 4}, {"wbits", 8}}), "wbits"));
  CHECK(mentions(refused({{"quant_method", "gptq"}, {"checkpoint_format", "gptq"}, {"format", "gptq_v2"}}),
                 "gptq_v2"));
}

TEST_CASE("a hostile configuration is refused by file and key", "[claims]") {
  const auto says = [](const char* quantization, const char* what) {
    const std::string text = refused(Json::parse(quantization));
    CAPTURE(text);
    CHECK(mentions(text, "config.json"));
    CHECK(mentions(text, what));
  };
  says(R"([1])", "quantization_config is [1]");
  says(R"({"quant_method": 4})", "quant_method");
  says(R"({"quant_method": "gptq", "bits": "four"})", "bits");
  says(R"({"quant_method": "gptq", "bits": 4.5})", "bits");
  says(R"({"quant_method": "gptq", "bits": 18446744073709551615})", "bits");
  says(R"({"quant_method": "gptq", "bits": -9223372036854775808})", "bits");
  says(R"({"quant_method": "gptq", "group_size": 0})", "group_size");
  says(R"({"quant_method": "gptq", "group_size": -2})", "group_size");
  says(R"({"quant_method": "gptq", "sym": 1})", "sym");
  says(R"({"quant_method": "gptq", "dynamic": []})", "dynamic");
  says(R"({"quant_method": "gptq", "dynamic": {"+:(": {}}})", "(at byte 1)");
  says(R"({"quant_method": "gptq", "dynamic": {"+:a": 4}})", "dynamic[\"+:a\"]");
  says(R"({"quant_method": "gptq", "dynamic": {"+:a": {"bits": "x"}}})", "dynamic[\"+:a\"].bits");
  says(R"({"quant_method": "awq", "modules_to_not_convert": [1]})", "modules_to_not_convert[0]");
  says(R"({"quant_method": "fp8", "weight_block_size": [128]})", "weight_block_size");
  says(R"({"quant_method": "fp8", "weight_block_size": [128, 0]})", "weight_block_size[1]");
  says(R"({"quant_method": "fp8", "weight_block_size": "128xx"})", "weight_block_size");
  says(R"({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {}}}})", "targets");
  says(R"({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": 1}}})", "weights");
  says(R"({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": [1]})",
       "quantized_layers");
  says(R"({"quant_method": "hqq", "axis": 2})", "axis");
  const CheckpointClaims slow = claims_from_text(
      R"json({"quant_method": "gptq", "bits": 4, "dynamic": {"+:(a+)+[bc]": {"bits": 8}}})json");
  CHECK(mentions(error_of(ErrorKind::unsupported, [&] { slow.of(std::string(60, 'a')); }), "gives up"));
  CHECK(
      mentions(refused({{"quant_method", "gptq"}, {"dynamic", {{"+:" + std::string(20000, '('), nullptr}}}}),
               "20000"));
}
