// Bytes frozen in tests/golden/packer_vectors.json, made by another program.

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "packer/io/sha256.hpp"
#include "packer/pack.hpp"
#include "packer/scales.hpp"
#include "tests/packer/random_matrix.hpp"
#include "tests/packer/whole.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

using Json = nlohmann::json;
using Bytes = std::vector<std::byte>;

/// The file's "input": x = x * 1664525 + 1013904223, top bits of each new x, row-major over (k, n).
Codes lcg_codes(K k, N n, int bits, std::uint32_t x) {
  Codes codes(k.value, n.value);
  for (Eigen::Index row = 0; row < codes.rows(); ++row)
    for (Eigen::Index col = 0; col < codes.cols(); ++col) {
      x = x * 1664525u + 1013904223u;
      codes(row, col) = static_cast<std::uint8_t>(x >> (32 - bits));
    }
  return codes;
}

Bytes pack_case(const Json& c, void (*pack)(const Codes&, ScalarType, std::span<std::byte>)) {
  const K k{c.at("k").get<std::int64_t>()};
  const N n{c.at("n").get<std::int64_t>()};
  const ScalarType type = c.at("bits") == 4 ? kU4B8 : kU8B128;
  Bytes bytes(packed_bytes(k, n, type));
  pack(lcg_codes(k, n, type.bits, c.at("seed").get<std::uint32_t>()), type, bytes);
  return bytes;
}

Bytes scales_case(const Json& c, ScaleOrder order) {
  MatrixF scales(2, c.at("n").get<std::int64_t>());
  std::uint16_t bits = 0;
  for (Eigen::Index group = 0; group < 2; ++group)
    for (Eigen::Index n = 0; n < scales.cols(); ++n) scales(group, n) = f16_to_float(bits++);
  Bytes bytes(static_cast<std::size_t>(scales.size()) * 2);
  whole_scales(scales, DType::F16, order, bytes);
  return bytes;
}

/// Symmetric version 1: every zero stored as one less than the middle.
Bytes zeros_case(const Json& c) {
  const int bits = c.at("bits").get<int>();
  const auto words = c.at("shape")[0].get<std::int64_t>() * c.at("shape")[1].get<std::int64_t>();
  Bytes bytes(static_cast<std::size_t>(words) * 4);
  for (std::int64_t i = 0; i < words * 32 / bits; ++i)
    add_stream_element(bytes, i, bits, static_cast<std::uint32_t>(symmetric_integer(bits).bias - 1));
  return bytes;
}

Bytes bytes_of(const Json& c) {
  const std::string layout = c.at("layout");
  if (layout == "gptq") return pack_case(c, whole_gptq);
  if (layout == "marlin") return pack_case(c, whole_marlin);
  if (layout == "scales_grouped") return scales_case(c, ScaleOrder::grouped);
  if (layout == "scales_single") return scales_case(c, ScaleOrder::single);
  if (layout == "gptq_zeros") return zeros_case(c);
  FAIL("no layout " << layout);
  return {};
}

/// The first elements as hex digits, most significant first.
std::vector<std::string> first_of(const Bytes& bytes, std::size_t count, std::size_t element_bytes) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < count; ++i) {
    std::string text;
    for (std::size_t b = element_bytes; b-- > 0;)
      text += fmt::format("{:02x}", static_cast<unsigned>(bytes.at(i * element_bytes + b)));
    texts.push_back(text);
  }
  return texts;
}

}  // namespace

TEST_CASE("golden vectors of an independent program", "[packer][golden]") {
  const Json file = Json::parse(read_file(golden("packer_vectors.json")));
  REQUIRE(file.at("cases").size() == 8);
  for (const Json& c : file.at("cases")) {
    INFO(c.at("name").get<std::string>());
    const Bytes bytes = bytes_of(c);
    const auto expected = c.at("first").get<std::vector<std::string>>();
    CHECK(first_of(bytes, expected.size(), expected.at(0).size() / 2) == expected);
    CHECK(sha256(bytes) == c.at("sha256").get<std::string>());
  }
}
