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
