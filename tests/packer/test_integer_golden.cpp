// AWQ's and compressed-tensors' words against tests/golden/oracle_vectors.json, made by an independent Python
// program. Its inputs: x = x * 1664525 + 1013904223 from `seed`, the top bits of each new x, row-major over
// (K, N) or (G, N). Its outputs: the SHA-256 of the little-endian tensor and its first elements in hex.

#include <cstring>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "packer/io/sha256.hpp"
#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

using Json = nlohmann::json;

constexpr K kK{256};
constexpr N kN{192};

std::vector<std::uint8_t> lcg(std::int64_t count, int bits, std::uint32_t x) {
  std::vector<std::uint8_t> values;
  for (std::int64_t i = 0; i < count; ++i) {
    x = x * 1664525u + 1013904223u;
    values.push_back(static_cast<std::uint8_t>(x >> (32 - bits)));
  }
  return values;
}

/// The oracle's codes, with two groups of zero points of its seed 31, where the scheme has them.
QuantizedMatrix input(int bits, std::uint32_t seed, bool zeros) {
  Scheme scheme{zeros ? unsigned_integer(bits) : symmetric_integer(bits), GroupSize{128}, DType::F16};
  if (zeros) scheme.zero_points = ZeroPoints::integer;
  QuantizedMatrix q = make_matrix(scheme, kK, kN);
  const auto codes = lcg(q.codes.size(), bits, seed);
  for (Eigen::Index i = 0; i < q.codes.size(); ++i)
    q.codes(i / kN.value, i % kN.value) = codes[static_cast<std::size_t>(i)];
  const auto zero_points = lcg(q.zero_points.size(), 4, 31);
  for (Eigen::Index i = 0; i < q.zero_points.size(); ++i)
    q.zero_points(i / kN.value, i % kN.value) = zero_points[static_cast<std::size_t>(i)];
  q.scales.setConstant(0.5f);
  return q;
}

struct Golden {
  const char *name, *format, *suffix;
  int bits;
  std::uint32_t seed;
  bool zeros;
};
const std::vector<Golden> kGolden = {
    {"awq_gemm_qweight", "awq", "qweight", 4, 11, true},
    {"awq_gemm_qzeros", "awq", "qzeros", 4, 11, true},
    {"awq_gemv_qweight", "awq-gemv", "qweight", 4, 11, true},
    {"awq_gemv_qzeros_g128", "awq-gemv", "qzeros", 4, 11, true},
    {"awq_gemv_fast_qweight", "awq-gemv-fast", "qweight", 4, 11, true},
    {"ct_weight_packed_4bit", "ct-pack-quantized", "weight_packed", 4, 11, true},
    {"ct_weight_packed_8bit", "ct-pack-quantized", "weight_packed", 8, 12, false},
    {"ct_weight_packed_3bit_dense", "ct-pack-quantized", "weight_packed", 3, 13, false},
    {"ct_weight_packed_3bit_legacy", "ct-pack-quantized", "weight_packed", 3, 13, false},
    {"ct_zero_point_4bit", "ct-pack-quantized", "weight_zero_point", 4, 11, true},
};

}  // namespace

TEST_CASE("integer formats: golden vectors of an independent program", "[integer][golden]") {
  const Golden g = GENERATE(from_range(kGolden));
  CAPTURE(g.name);
  const Json file = Json::parse(read_file(golden("oracle_vectors.json")));
  const auto& cases = file.at("cases");
  const auto found = std::ranges::find_if(cases, [&](const Json& c) { return c.at("name") == g.name; });
  REQUIRE(found != cases.end());
  const Shape shape = found->at("shape").get<Shape>();

  const WeightFormat& format = *weight_format_named(g.format);
  const QuantizedMatrix q = input(g.bits, g.seed, g.zeros);
  std::vector<PartSpec> specs = format.specs(q.scheme, kK, kN);
  for (PartSpec& spec : specs)  // the older packing has another width
    if (spec.suffix == g.suffix) spec.shape = shape;
  std::vector<Part> parts = allocate(specs);
  format.write(q, {q.scheme, kK, kN}, buffers_of(parts));
  const auto part = std::ranges::find(parts, g.suffix, &Part::suffix);
  REQUIRE(part != parts.end());
  const std::vector<std::byte>& bytes = part->tensor.data;
  CHECK(sha256(bytes) == found->at("sha256").get<std::string>());
  const std::size_t width = bytes.size() / static_cast<std::size_t>(shape[0] * shape[1]);
  const auto first = found->at("first").get<std::vector<std::string>>();
  for (std::size_t i = 0; i < first.size(); ++i) {
    std::uint32_t element = 0;
    std::memcpy(&element, bytes.data() + i * width, width);
    CHECK(fmt::format("{:x}", element) == first[i]);
  }
}
