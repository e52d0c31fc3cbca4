// Checkpoints that the field's tools wrote, where they are at hand: their weights to the bit, and their bytes
// back again.

#include <filesystem>

#include "packer/float_weights.hpp"
#include "packer/io/checkpoint.hpp"
#include "packer/io/json_file.hpp"
#include "packer/io/sha256.hpp"
#include "tests/packer/float_cases.hpp"

using namespace mpk;
using namespace mpk::test;

TEST_CASE("llm-compressor's FP8 and NVFP4 checkpoints, to the bit and back", "[float][checkpoints]") {
  const auto [name, row] = GENERATE(table<const char*, const char*>(
      {{"ct-fp8-channel", "ct-float-quantized"}, {"ct-nvfp4-weights", "ct-nvfp4-pack-quantized"}}));
  const auto folder = std::filesystem::path{MPK_SOURCE_DIR}.parent_path() / "shared" / "checkpoints";
  const auto hashes = folder / (std::string{name} + ".dequantized.json");
  if (!std::filesystem::exists(folder / name / "model.safetensors") || !std::filesystem::exists(hashes)) {
    WARN("skipped: " << name << " is not here");
    return;
  }
  const Checkpoint checkpoint = Checkpoint::open(folder / name);
  std::map<std::string, PartViews> modules;
  for (const std::string& tensor : checkpoint.names()) {
    const std::size_t dot = tensor.rfind('.');
    modules[tensor.substr(0, dot)].emplace(tensor.substr(dot + 1), checkpoint.tensor(tensor));
  }
  const nlohmann::json expected = read_json_file(hashes);
  REQUIRE(expected.size() > 10);
  for (const auto& [module, about] : expected.items()) {
    CAPTURE(name, module);
    const PartViews& parts = modules.at(module);
    const auto stored = recognize(parts, {.method = "compressed-tensors"});
    REQUIRE(stored);
    CHECK(std::string{stored->format->name} == row);
    const auto [scheme, k, n] = stored->geometry;
    CHECK(about.at("shape") == nlohmann::json{n.value, k.value});
    CHECK(about.at("dtype") == "bfloat16");
    CHECK(float_dtype_of(scheme) == DType::BF16);

    std::vector<std::byte> bytes(static_cast<std::size_t>(n.value * k.value) * 2);
    std::vector<Part> back = allocate(specs_of(parts));
    for (std::int64_t first = 0; first < n.value; first += kColumnUnit) {
      const QuantizedMatrix slab =
          read_columns(*stored, parts, {first, std::min(kColumnUnit, n.value - first)});
      write_float_weights(slab, DType::BF16, n, bytes);
      stored->format->write(slab, stored->geometry, buffers_of(back));
    }
    CHECK(sha256(bytes) == about.at("sha256").get<std::string>());
    for (const Part& part : back) CHECK(std::ranges::equal(part.tensor.data, parts.at(part.suffix).data));
  }
}
