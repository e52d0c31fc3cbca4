// Checkpoints that the field's own tools wrote, where they stand beside the source tree: what we read
// dequantizes to the tool's own numbers, and written back it is the tool's own bytes. Without them nothing is
// tested here.

#include <algorithm>
#include <cctype>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "packer/io/checkpoint.hpp"
#include "packer/io/sha256.hpp"
#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

using Json = nlohmann::json;

std::filesystem::path checkpoints() {
  return std::filesystem::path{MPK_SOURCE_DIR}.parent_path() / "shared" / "checkpoints";
}

/// module -> its tensors
std::map<std::string, PartViews> modules_of(const Checkpoint& checkpoint) {
  std::map<std::string, PartViews> modules;
  for (const std::string& name : checkpoint.names()) {
    const std::size_t dot = name.rfind('.');
    modules[name.substr(0, dot)].emplace(name.substr(dot + 1), checkpoint.tensor(name));
  }
  return modules;
}

Claims claims_of(const Json& quantization) {
  Claims claims{.method = quantization.at("quant_method").get<std::string>()};
  claims.dialect = quantization.value("version", quantization.value("format", ""));
  if (claims.method != "awq") return {.method = claims.method, .dialect = quantization.at("format")};
  claims.bits = quantization.at("bits").get<int>();
  claims.group_size = quantization.at("group_size").get<std::int64_t>();
  return claims;
}

/// Row-major (N, K) of the weight, rounded to this dtype, which is the column-major (K, N).
std::string sha256_of_weight(const MatrixF& weight, DType dtype) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(weight.size()) * bytes_of(dtype));
  for (Eigen::Index i = 0; i < weight.size(); ++i)
    store_rounded(weight.data()[i], dtype, bytes.data() + static_cast<std::size_t>(i) * bytes_of(dtype));
  return sha256(bytes);
}

}  // namespace

TEST_CASE("checkpoints of other tools are read as their tools read them, and written back",
          "[integer][checkpoints]") {
  const auto [name, row] =
      GENERATE(table<const char*, const char*>({{"awq-gemm-asym-g128", "awq"},
                                                {"awq-gemv-asym-g64", "awq-gemv"},
                                                {"awq-marlin-sym-g128", "awq-marlin"},
                                                {"ct-int4-sym-g128", "ct-pack-quantized"},
                                                {"ct-int4-asym-g32-bias", "ct-pack-quantized"},
                                                {"ct-int8-channel", "ct-pack-quantized"},
                                                {"ct-w8a8-bias", "ct-int-quantized"}}));
  if (!std::filesystem::exists(checkpoints() / name)) {
    WARN("no " << name << " beside the source tree");
    return;
  }
  const Checkpoint checkpoint = Checkpoint::open(checkpoints() / name);
  const Claims claims = claims_of(checkpoint.config().at("quantization_config"));
  const auto hashes_file = checkpoints() / (std::string{name} + ".dequantized.json");
  const Json hashes = std::filesystem::exists(hashes_file) ? Json::parse(read_file(hashes_file)) : Json{};
  int quantized = 0;
  for (const auto& [module, parts] : modules_of(checkpoint)) {
    CAPTURE(name, module);
    const auto stored = recognize(parts, claims);
    if (!stored) {
      CHECK_FALSE(hashes.contains(module));
      continue;
    }
    ++quantized;
    CHECK(stored->format->name == std::string_view{row});
    const QuantizedMatrix whole = read_columns(*stored, parts, {0, stored->geometry.n.value});
    if (!hashes.is_null()) {
      const Json& expected = hashes.at(module);
      CHECK(expected.at("shape") == Json{stored->geometry.n.value, stored->geometry.k.value});
      const DType dtype = expected.at("dtype") == "bfloat16" ? DType::BF16 : DType::F16;
      CHECK(dtype == stored->geometry.scheme.scale_dtype);
      CHECK(sha256_of_weight(dequantize(whole), dtype) == expected.at("sha256"));
    }
    std::vector<PartSpec> specs;
    for (const auto& [suffix, view] : parts)
      if (!is_companion(suffix)) specs.push_back({suffix, view.dtype, view.shape});
    std::vector<Part> again = allocate(specs);
    const PartBuffers buffers = buffers_of(again);
    for (std::int64_t first = 0; first < stored->geometry.n.value; first += kColumnUnit)
      stored->format->write(
          read_columns(*stored, parts, {first, std::min(kColumnUnit, stored->geometry.n.value - first)}),
          stored->geometry, buffers);
    for (const Part& part : again) CHECK(std::ranges::equal(part.tensor.data, parts.at(part.suffix).data));

    // the usual spelling is the tool's own
    const auto& [scheme, k, n] = stored->geometry;
    REQUIRE_FALSE(stored->format->refusal(scheme, k, n));
    for (const Part& part : stored->format->encode(whole))
      CHECK(std::ranges::equal(part.tensor.data, parts.at(part.suffix).data));
  }
  CHECK(quantized > 10);
  if (!hashes.is_null()) CHECK(static_cast<std::size_t>(quantized) == hashes.size());
}
