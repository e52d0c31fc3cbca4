#include <limits>

#include "packer/format/error.hpp"
#include "packer/manifest.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

namespace {

Manifest example() {
  Manifest manifest;
  manifest.version = "1.2.3";
  manifest.format = "marlin";
  manifest.recipe = {{"method", "gptq"}, {"bits", 4}};
  manifest.sample_tokens = {1, 2, 3};
  manifest.layers.push_back(
      {"a.b", {kU4B8, GroupSize{128}, DType::F16}, K{256}, N{64}, "marlin", "00ff", 0.1, 0.002, 0.01});
  manifest.layers.push_back(
      {"a.c", {kU8B128, std::nullopt, DType::BF16}, K{256}, N{64}, "gptq", "11ff", 1e-300, {}, {}});
  manifest.tensors.push_back({"a.b.qweight", "model.safetensors", DType::I32, {16, 128}, "22"});
  manifest.source.push_back({"a.b.weight", DType::BF16, {64, 256}, "33", Fate::quantized, ""});
  manifest.source.push_back({"inv_freq", DType::F32, {}, "44", Fate::dropped, "recomputed"});
  ManifestLayer rearranged{
      "a.qkv_proj", {kU4B8, GroupSize{128}, DType::F16}, K{128}, N{192}, "gptq", "", {}, {}, {}};
  rearranged.part = LayerPart{"column", 2, {{"a.q_proj", 64, 128}, {"a.k_proj", 0, 64}}, 128, 128};
  rearranged.fold = LayerFold{"a.down_proj", {0, 2, 1, 258}};
  manifest.layers.push_back(rearranged);
  manifest.tensor_parallel = RankOfModel{4, 3, 0};
  manifest.files.push_back({"config.json", 12, "55", false});
  manifest.files.push_back({"model.safetensors", 1 << 20, "66", true});
  return manifest;
}

}  // namespace

TEST_CASE("a manifest survives its file", "[manifest]") {
  const std::string text = serialize(example());
  REQUIRE(serialize(parse_manifest(text)) == text);
  const Manifest back = parse_manifest(text);
  REQUIRE(back.layers[0].scheme == example().layers[0].scheme);
  REQUIRE(back.layers[1].scheme == example().layers[1].scheme);
  REQUIRE(back.layers[0].relative_loss == 0.002);
  REQUIRE_FALSE(back.layers[1].relative_loss);
  REQUIRE(back.source[1].fate == Fate::dropped);
  REQUIRE(back.files[1].header_only);
  REQUIRE((back.tensor_parallel->ranks == 4 && back.tensor_parallel->rank == 3));
  REQUIRE((back.layers[2].part->first_row == 128 && back.layers[2].part->rows == 128));
  REQUIRE((back.layers[2].part->of[0].first == 64 && back.layers[2].part->of[1].module == "a.k_proj"));
  REQUIRE(back.layers[2].fold->g_idx == std::vector<std::int32_t>{0, 2, 1, 258});
}

TEST_CASE("ranks and rows that cannot be are refused", "[manifest]") {
  Manifest manifest = example();
  manifest.tensor_parallel->rank = 4;
  REQUIRE_THROWS_AS(parse_manifest(serialize(manifest)), Error);
  manifest = example();
  manifest.layers[2].part->first_row = -1;
  REQUIRE_THROWS_AS(parse_manifest(serialize(manifest)), Error);
  manifest = example();
  manifest.layers[2].part->of[1].count = 0;
  REQUIRE_THROWS_AS(parse_manifest(serialize(manifest)), Error);
  manifest = example();
  manifest.layers[2].fold->g_idx[1] = -5;
  REQUIRE_THROWS_AS(parse_manifest(serialize(manifest)), Error);
}

TEST_CASE(
    "folded scales survive the file; too few of them, or ones that nothing can be divided by, are refused",
    "[manifest]") {
  Manifest manifest = example();
  ManifestLayer& layer = manifest.layers[0];
  layer.input_scales.assign(256, 0.75f);
  layer.input_scales[3] = -1.25e-3f;
  layer.output_scales.assign(64, 2.0f);
  manifest.source[1].fate = Fate::rescaled;
  const std::string text = serialize(manifest);
  const Manifest back = parse_manifest(text);
  REQUIRE(serialize(back) == text);
  REQUIRE(back.layers[0].input_scales == layer.input_scales);
  REQUIRE(back.layers[0].output_scales == layer.output_scales);
  REQUIRE(back.source[1].fate == Fate::rescaled);

  const int fault = GENERATE(0, 1, 2);
  if (fault == 0) layer.input_scales.pop_back();
  if (fault == 1) layer.output_scales[7] = 0;
  if (fault == 2) layer.input_scales[0] = std::numeric_limits<float>::infinity();
  CAPTURE(fault);
  REQUIRE_THROWS_AS(parse_manifest(serialize(manifest)), Error);
}

TEST_CASE("any single changed byte of a manifest is refused", "[manifest]") {
  const std::string text = serialize(example());
  for (std::size_t i = 0; i < text.size(); ++i)
    for (const int flip : {1, 32}) {
      std::string damaged = text;
      damaged[i] = static_cast<char>(damaged[i] ^ flip);
      CAPTURE(i, damaged[i]);
      REQUIRE_THROWS_AS(parse_manifest(damaged), Error);
    }
  REQUIRE_THROWS_AS(parse_manifest(text + " "), Error);
  REQUIRE_THROWS_AS(parse_manifest(""), Error);
  REQUIRE_THROWS_AS(parse_manifest("[]"), Error);
  REQUIRE_THROWS_AS(parse_manifest("{\"marlin_pack\": 1}"), Error);
}
