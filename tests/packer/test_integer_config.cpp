// What config.json says of AWQ and compressed-tensors.

#include "packer/formats/formats.hpp"
#include "tests/packer/random_matrix.hpp"

using namespace mpk;
using namespace mpk::test;
using Json = nlohmann::json;

namespace {

const Scheme kCommon{kU4B8, GroupSize{128}, DType::F16};

Scheme with(ScalarType type, std::optional<int> group_size, DType scale_dtype, std::int64_t columns = 1) {
  Scheme scheme{type, group_size ? std::optional{GroupSize{*group_size}} : std::nullopt, scale_dtype};
  scheme.columns_per_scale = columns;
  return scheme;
}

Json config(const char* format, const CheckpointSchemes& schemes) {
  return weight_format_named(format)->quantization_config(schemes);
}

/// All keys, as the tools write them.
Json weights(const Json& changes) {
  Json all{{"num_bits", 4},    {"type", "int"},         {"symmetric", true},          {"strategy", "group"},
           {"dynamic", false}, {"group_size", nullptr}, {"block_structure", nullptr}, {"actorder", nullptr}};
  all.update(changes);
  return all;
}

/// The weights object of a checkpoint of one scheme, after a look at its frame.
Json weights_of(const Scheme& scheme, const char* format) {
  const Json all = formats::compressed_tensors_config({scheme, {}, {}});
  CHECK(all.at("format") == format);
  const Json& groups = all.at("config_groups");
  REQUIRE(groups.size() == 1);
  CHECK(groups.at("group_0").at("targets") == Json::array({"Linear"}));
  CHECK(groups.at("group_0").at("format") == format);
  CHECK(groups.at("group_0").at("input_activations").is_null());
  return groups.at("group_0").at("weights");
}

}  // namespace

TEST_CASE("awq says its version, its group_size and what it left out", "[config][integer]") {
  CHECK(config("awq", {kCommon, {}, {}}) == Json{{"quant_method", "awq"},
                                                 {"bits", 4},
                                                 {"group_size", 128},
                                                 {"zero_point", true},
                                                 {"version", "gemm"},
                                                 {"modules_to_not_convert", nullptr}});
  CHECK(config("awq-gemv", {kCommon, {}, {}}).at("version") == "gemv");
  CHECK(config("awq-gemv-fast", {kCommon, {}, {}}).at("version") == "gemv_fast");
  CHECK(config("awq-marlin", {kCommon, {}, {}}).at("version") == "marlin");
  CHECK(config("awq-marlin", {kCommon, {}, {}}).at("zero_point") == false);
  CHECK(config("awq", {with(kU4B8, std::nullopt, DType::F16), {}, {"lm_head", "a.up_proj", "a.gate_proj"}})
            .at("modules_to_not_convert") == Json{"a.gate_proj", "a.gate_up_proj", "a.up_proj", "lm_head"});
}

TEST_CASE("awq has one group_size for all", "[config][integer]") {
  const auto refused = [&] { config("awq", {kCommon, {{"a.b", with(kU4B8, 64, DType::F16)}}, {}}); };
  CHECK(mentions(error_of(ErrorKind::unsupported, refused), "a.b has group_size 64"));
  Scheme zeros = kCommon;
  zeros.type = kU4;
  zeros.zero_points = ZeroPoints::integer;
  CHECK_NOTHROW(config("awq", {kCommon, {{"a.b", zeros}}, {}}));
}

TEST_CASE("compressed-tensors describes every scheme of its family", "[config][integer]") {
  CHECK(weights_of(kCommon, "pack-quantized") == weights(Json::object({{"group_size", 128}})));
  CHECK(weights_of(with(kU8B128, std::nullopt, DType::BF16), "pack-quantized") ==
        weights({{"num_bits", 8}, {"strategy", "channel"}}));
  CHECK(weights_of(with(kU8B128, std::nullopt, DType::F32, Scheme::kAllColumns), "pack-quantized")
            .at("strategy") == "tensor");
  Scheme ordered = with(kU4, 32, DType::F16);
  ordered.zero_points = ZeroPoints::integer;
  ordered.act_order = true;
  CHECK(weights_of(ordered, "pack-quantized").at("symmetric") == false);
  CHECK(weights_of(ordered, "pack-quantized").at("actorder") == "group");

  const auto fp8_and = [&](const Json& more) {
    Json all = weights({{"num_bits", 8}, {"type", "float"}});
    all.update(more);
    return all;
  };
  CHECK(weights_of(with(kE4M3, std::nullopt, DType::BF16), "float-quantized") ==
        fp8_and(Json::object({{"strategy", "channel"}})));
  CHECK(weights_of(with(kE4M3, std::nullopt, DType::F32, Scheme::kAllColumns), "float-quantized") ==
        fp8_and(Json::object({{"strategy", "tensor"}})));
  CHECK(weights_of(with(kE4M3, 64, DType::F32, 128), "float-quantized") ==
        fp8_and({{"strategy", "block"}, {"block_structure", {128, 64}}}));
  CHECK(weights_of(with(kE4M3, std::nullopt, DType::F32, 128), "float-quantized") ==
        fp8_and({{"strategy", "block"}, {"block_structure", {128, 128}}}));
  CHECK(weights_of(with(kE4M3, 32, DType::F8_E8M0), "mxfp8-quantized") ==
        fp8_and({{"strategy", "group"}, {"group_size", 32}, {"scale_dtype", "torch.uint8"}}));

  Scheme nvfp4 = with(kE2M1, 16, DType::F8_E4M3);
  nvfp4.global_scale = GlobalScale::divides;
  CHECK(weights_of(nvfp4, "nvfp4-pack-quantized") == weights({{"type", "float"},
                                                              {"strategy", "tensor_group"},
                                                              {"group_size", 16},
                                                              {"scale_dtype", "torch.float8_e4m3fn"}}));
  CHECK(weights_of(with(kE2M1, 32, DType::F8_E8M0), "mxfp4-pack-quantized") ==
        weights({{"type", "float"}, {"group_size", 32}, {"scale_dtype", "torch.uint8"}}));
  error_of(ErrorKind::unsupported, [] {
    formats::compressed_tensors_config({with(kE4M3, 32, DType::F32, Scheme::kAllColumns), {}, {}});
  });
}

TEST_CASE("compressed-tensors names its exceptions, their fused layers too", "[config][integer]") {
  const Scheme wide = with(kU8B128, std::nullopt, DType::F16), fp8 = with(kE4M3, std::nullopt, DType::F32);
  const Json all = formats::compressed_tensors_config({kCommon,
                                                       {{"l.0.mlp.down_proj", wide},
                                                        {"l.1.mlp.down_proj", kCommon},
                                                        {"l.2.mlp.down_proj", with(kU4B8, 128, DType::BF16)},
                                                        {"l.3.mlp.gate_proj", wide},
                                                        {"l.3.mlp.up_proj", wide},
                                                        {"l.4.mlp.up_proj", fp8}},
                                                       {"lm_head", "l.0.self_attn.v_proj"}});
  CHECK(all.at("quant_method") == "compressed-tensors");
  CHECK(all.at("quantization_status") == "compressed");
  CHECK(all.at("format") == "mixed-precision");
  CHECK(all.at("ignore") == Json{"l.0.self_attn.v_proj", "lm_head"});
  const Json& groups = all.at("config_groups");
  REQUIRE(groups.size() == 3);
  CHECK(groups.at("group_0").at("targets") == Json::array({"Linear"}));
  CHECK(groups.at("group_1").at("targets") ==
        Json{"l.0.mlp.down_proj", "l.3.mlp.gate_proj", "l.3.mlp.gate_up_proj", "l.3.mlp.up_proj"});
  CHECK(groups.at("group_2").at("targets") == Json::array({"l.4.mlp.up_proj"}));
  CHECK(groups.at("group_2").at("format") == "float-quantized");
  CHECK(mentions(error_of(ErrorKind::bad_input,
                          [&] {
                            formats::compressed_tensors_config({kCommon, {{"lm_head", wide}}, {"lm_head"}});
                          }),
                 "lm_head"));
}
