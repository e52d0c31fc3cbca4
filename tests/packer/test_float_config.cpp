// What config.json says of checkpoints with floating-point codes.

#include "tests/packer/float_cases.hpp"

using namespace mpk;
using namespace mpk::test;
using Json = nlohmann::json;

namespace {

Json config(const char* row, const CheckpointSchemes& schemes) {
  return row_named(row).quantization_config(schemes);
}

Json weights(Json changes) {
  Json all{{"num_bits", 8},         {"type", "float"},       {"symmetric", true},
           {"strategy", "channel"}, {"group_size", nullptr}, {"block_structure", nullptr},
           {"dynamic", false},      {"actorder", nullptr}};
  all.update(changes);
  return all;
}

}  // namespace

TEST_CASE("compressed-tensors: each scheme has its words", "[float][config]") {
  struct Said {
    Scheme scheme;
    const char* format;
    Json weights;
  };
  const std::vector<Said> all{
      {fp8_scheme(0, 1), "float-quantized", weights(Json::object())},
      {fp8_scheme(0, Scheme::kAllColumns), "float-quantized", weights({{"strategy", "tensor"}})},
      {fp8_scheme(64, 1), "float-quantized", weights({{"strategy", "group"}, {"group_size", 64}})},
      {fp8_scheme(128, 64), "float-quantized",
       weights({{"strategy", "block"}, {"block_structure", {64, 128}}})},
      {nvfp4_scheme(GlobalScale::divides), "nvfp4-pack-quantized",
       weights({{"num_bits", 4},
                {"strategy", "tensor_group"},
                {"group_size", 16},
                {"scale_dtype", "torch.float8_e4m3fn"}})},
      {mx_scheme(kE2M1), "mxfp4-pack-quantized",
       weights({{"num_bits", 4}, {"strategy", "group"}, {"group_size", 32}, {"scale_dtype", "torch.uint8"}})},
      {mx_scheme(kE4M3), "mxfp8-quantized",
       weights({{"strategy", "group"}, {"group_size", 32}, {"scale_dtype", "torch.uint8"}})},
  };
  for (const Said& said : all) {
    const Json found = config("ct-float-quantized", {said.scheme, {}, {"lm_head"}});
    CHECK(found == Json{{"quant_method", "compressed-tensors"},
                        {"format", said.format},
                        {"quantization_status", "compressed"},
                        {"config_groups",
                         {{"group_0",
                           {{"format", said.format},
                            {"targets", {"Linear"}},
                            {"weights", said.weights},
                            {"input_activations", nullptr},
                            {"output_activations", nullptr}}}}},
                        {"ignore", {"lm_head"}},
                        {"kv_cache_scheme", nullptr}});
  }
}

TEST_CASE("compressed-tensors: modules that differ are named in a group of their own", "[float][config]") {
  const Json found = config("ct-mxfp8-quantized", {fp8_scheme(0, 1, DType::BF16),
                                                   {{"a", mx_scheme(kE4M3)},
                                                    {"b", fp8_scheme(0, 1, DType::F32)},  // said alike
                                                    {"c", mx_scheme(kE4M3)},
                                                    {"d", fp8_scheme(128, 128)}},
                                                   {"e", "f"}});
  CHECK(found.at("format") == "mixed-precision");
  CHECK(found.at("config_groups").size() == 3);
  CHECK(found.at("config_groups").at("group_0").at("targets") == Json{"Linear"});
  CHECK(found.at("config_groups").at("group_1").at("targets") == Json{"a", "c"});
  CHECK(found.at("config_groups").at("group_1").at("format") == "mxfp8-quantized");
  CHECK(found.at("config_groups").at("group_2").at("targets") == Json{"d"});
  CHECK(found.at("ignore") == Json{"e", "f"});
}

TEST_CASE("the other families have one scheme for all", "[float][config]") {
  CHECK(config("fp8", {fp8_scheme(128, 128), {{"a", fp8_scheme(128, 128, DType::BF16)}}, {"lm_head"}}) ==
        Json{{"quant_method", "fp8"},
             {"fmt", "e4m3"},
             {"activation_scheme", "dynamic"},
             {"weight_block_size", {128, 128}},
             {"ignored_layers", {"lm_head"}},
             {"modules_to_not_convert", {"lm_head"}}});
  const Json tensor = config("fp8", {fp8_scheme(0, Scheme::kAllColumns), {}, {}});
  CHECK_FALSE(tensor.contains("weight_block_size"));
  CHECK(tensor.at("ignored_layers") == Json::array());
  CHECK(config("fp8", {fp8_scheme(0, 1), {}, {"a"}}) ==
        Json{{"quant_method", "modelopt"}, {"quant_algo", "FP8_PER_CHANNEL_PER_TOKEN"}, {"ignore", {"a"}}});
  const Json inverse = config("fp8", {dividing(fp8_scheme(0, 1)), {}, {}});
  CHECK(inverse.at("weight_scale_semantics") == "inverse");
  CHECK(inverse.at("weight_scale_method") == "row");

  CHECK(
      config("modelopt-nvfp4", {nvfp4_scheme(GlobalScale::multiplies), {}, {"lm_head"}}) ==
      Json{{"quant_method", "modelopt"},
           {"quant_algo", "W4A16_NVFP4"},
           {"config_groups",
            {{"group_0",
              {{"targets", {"Linear"}},
               {"weights", {{"num_bits", 4}, {"type", "float"}, {"group_size", 16}, {"dynamic", false}}}}}}},
           {"ignore", {"lm_head"}}});
  CHECK(config("gpt-oss-mxfp4", {mx_scheme(kE2M1), {}, {"lm_head"}}) ==
        Json{{"quant_method", "mxfp4"}, {"modules_to_not_convert", {"lm_head"}}});

  for (const char* row : {"fp8", "modelopt-nvfp4", "gpt-oss-mxfp4"})
    CHECK(mentions(error_of(ErrorKind::unsupported,
                            [&] {
                              config(row, {fp8_scheme(128, 128), {{"a.b", fp8_scheme(64, 64)}}, {}});
                            }),
                   "a.b"));
}
