// Bytes of the Marlin family that an independent Python program froze in tests/golden/oracle_vectors.json (41
// cases of many formats; "generator" there tells how the inputs are made), and the numbers of its examples.

#include <cstring>
#include <span>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "packer/block_scales.hpp"
#include "packer/format/layouts.hpp"
#include "packer/io/sha256.hpp"
#include "packer/sparse24.hpp"
#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"
#include "tests/packer/whole.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

using Json = nlohmann::json;
using Bytes = std::vector<std::byte>;

constexpr int kK = 256, kN = 192;

Codes lcg(int rows, int cols, int bits, std::uint32_t x) {
  Codes codes(rows, cols);
  for (Eigen::Index row = 0; row < rows; ++row)
    for (Eigen::Index col = 0; col < cols; ++col) {
      x = x * 1664525u + 1013904223u;
      codes(row, col) = static_cast<std::uint8_t>(x >> (32 - bits));
    }
  return codes;
}

const WeightFormat& row(const char* name) {
  return *weight_format_named(name);
}

/// The tensor `suffix` of what the row writes.
Bytes part(const char* format, const QuantizedMatrix& q, std::string_view suffix) {
  for (const Part& part : row(format).encode(q))
    if (part.suffix == suffix) return part.tensor.data;
  FAIL("no part " << suffix);
  return {};
}

QuantizedMatrix plain(const Scheme& scheme, const Codes& codes) {
  QuantizedMatrix q = make_matrix(scheme, K{codes.rows()}, N{codes.cols()});
  q.codes = codes;
  q.scales.setOnes();
  q.zero_points.setZero();
  return q;
}

Scheme with_zeros(ScalarType type, DType activations, bool say = false) {
  Scheme scheme{type, GroupSize{128}, DType::F16};
  scheme.zero_points = ZeroPoints::integer;
  if (say) scheme.activations = activations;
  return scheme;
}

Bytes zeros(const char* format, int bits, std::uint32_t seed) {
  QuantizedMatrix q = plain(with_zeros(unsigned_integer(bits), DType::F16), Codes::Zero(kK, kN));
  q.zero_points = lcg(2, kN, bits, seed).cast<std::int16_t>();
  return part(format, q, "qzeros");
}

Bytes ordered(ScaleOrder order) {
  MatrixF scales(2, kN);
  std::uint16_t bits = 0;
  for (Eigen::Index group = 0; group < 2; ++group)
    for (Eigen::Index n = 0; n < kN; ++n) scales(group, n) = f16_to_float(bits++);
  Bytes bytes(static_cast<std::size_t>(scales.size()) * 2);
  whole_scales(scales, DType::F16, order, bytes);
  return bytes;
}

Bytes nvfp4_scales(std::uint8_t at_least, std::optional<DType> activations) {
  Scheme scheme{kE2M1, GroupSize{16}, DType::F8_E4M3};
  scheme.global_scale = GlobalScale::multiplies;
  scheme.activations = activations;
  QuantizedMatrix q = plain(scheme, Codes::Zero(kK, kN));
  const Codes bytes = lcg(kK / 16, kN, 8, 41);
  for (Eigen::Index i = 0; i < bytes.size(); ++i) {
    auto byte = static_cast<std::uint8_t>(bytes.data()[i] & 0x7f);
    if (byte == 0x7f) byte = 0x7e;
    q.scales.data()[i] = e4m3_to_float(std::max(byte, at_least));
  }
  return part("marlin", q, "scales");
}

Bytes mx_scales(const char* format) {
  QuantizedMatrix q = plain({kE2M1, GroupSize{32}, DType::F8_E8M0}, Codes::Zero(kK, kN));
  const Codes codes = lcg(kK / 32, kN, 4, 42);
  for (Eigen::Index i = 0; i < codes.size(); ++i)
    q.scales.data()[i] = e8m0_to_float(static_cast<std::uint8_t>(110 + codes.data()[i]));
  return part(format, q, "scales");
}

/// {words, positions}. N = 192 is no multiple of 128, so the row itself would refuse.
std::pair<Bytes, Bytes> sparse(int bits) {
  constexpr int kPatterns[6][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};
  const Codes choice = lcg(kK / 4, kN, 8, 51), values = lcg(kK, kN, bits, 52);
  Codes codes = Codes::Constant(kK, kN, static_cast<std::uint8_t>(1 << (bits - 1)));
  for (Eigen::Index quad = 0; quad < kK / 4; ++quad)
    for (Eigen::Index n = 0; n < kN; ++n)
      for (const int j : kPatterns[choice(quad, n) % 6]) codes(4 * quad + j, n) = values(4 * quad + j, n);
  const ScalarType type = symmetric_integer(bits);
  std::pair<Bytes, Bytes> made;
  made.first.resize(packed_bytes(K{kK}, N{kN}, type) / 2);
  made.second.resize(meta_bytes_24(K{kK}, N{kN}));
  pack_marlin_24(codes, type, {N{kN}}, made.first, made.second);
  Codes back(kK, kN);
  unpack_marlin_24(made.first, made.second, type, {N{kN}}, back);
  CHECK(back == codes);
  return made;
}

Bytes a8_codes(int bits, std::uint32_t seed) {
  const ScalarType type = symmetric_integer(bits);
  Bytes bytes(packed_bytes(K{kK}, N{kN}, type));
  pack_marlin_a8(lcg(kK, kN, bits, seed), type, {N{kN}}, bytes);
  return bytes;
}

Bytes dense_codes(int bits, std::uint32_t seed) {
  return part("marlin", plain({symmetric_integer(bits), std::nullopt, DType::F16}, lcg(kK, kN, bits, seed)),
              "qweight");
}

std::map<std::string, Bytes> made() {
  return {{"marlin_d4", dense_codes(4, 11)},
          {"marlin_d8", dense_codes(8, 12)},
          {"marlin_a8_d4", a8_codes(4, 11)},
          {"marlin_a8_d8", a8_codes(8, 12)},
          {"marlin_zp_4bit", zeros("marlin", 4, 31)},
          {"marlin_zp_8bit", zeros("marlin", 8, 32)},
          {"marlin_zp_4bit_a8", zeros("marlin-a8", 4, 31)},
          {"scale_perm_grouped", ordered(ScaleOrder::grouped)},
          {"scale_perm_single", ordered(ScaleOrder::single)},
          {"scale_perm_24_grouped", ordered(ScaleOrder::sparse)},
          {"nvfp4_scales_fp16", nvfp4_scales(0, std::nullopt)},
          {"nvfp4_scales_bf16_factor1", nvfp4_scales(8, DType::BF16)},
          {"mxfp4_scales", mx_scales("marlin")},
          {"mxfp4_scales_a8fp8", mx_scales("marlin-a8")},
          {"marlin24_B_4bit", sparse(4).first},
          {"marlin24_meta_4bit", sparse(4).second},
          {"marlin24_B_8bit", sparse(8).first},
          {"marlin24_meta_8bit", sparse(8).second}};
}

template <class T>
std::vector<T> first(const Bytes& bytes, std::size_t count) {
  std::vector<T> values(count);
  std::memcpy(values.data(), bytes.data(), count * sizeof(T));
  return values;
}
using Words = std::vector<std::uint32_t>;

Codes linear(int step_k, int step_n, int bits) {
  Codes codes(32, 64);
  for (int n = 0; n < 64; ++n)
    for (int k = 0; k < 32; ++k)
      codes(k, n) = static_cast<std::uint8_t>((step_k * k + step_n * n) & ((1 << bits) - 1));
  return codes;
}

}  // namespace

TEST_CASE("the oracle's bytes of the Marlin family", "[marlin][golden]") {
  std::map<std::string, Bytes> ours = made();
  const Json file = Json::parse(read_file(golden("oracle_vectors.json")));
  for (const Json& c : file.at("cases")) {
    const std::string name = c.at("name");
    const auto it = ours.find(name);
    if (it == ours.end()) {
      CHECK_FALSE(name.starts_with("marlin"));
      continue;
    }
    INFO(name);
    CHECK(sha256(it->second) == c.at("sha256").get<std::string>());
    ours.erase(it);
  }
  CHECK(ours.empty());
}

TEST_CASE("worked examples of 8-bit activations", "[marlin][golden]") {
  Bytes bytes(packed_bytes(K{32}, N{64}, kU4B8));
  pack_marlin_a8(linear(3, 5, 4), kU4B8, {N{64}}, bytes);
  CHECK(first<std::uint32_t>(bytes, 6) ==
        Words{0x99663300, 0x11eebb88, 0x99663300, 0x11eebb88, 0x5522ffcc, 0xddaa7744});
  bytes.resize(packed_bytes(K{32}, N{64}, kU8B128));
  pack_marlin_a8(linear(7, 13, 8), kU8B128, {N{64}}, bytes);
  CHECK(first<std::uint32_t>(bytes, 6) ==
        Words{0x150e0700, 0x857e7770, 0x7d766f68, 0xede6dfd8, 0xe5ded7d0, 0x554e4740});

  // Every code c becomes 15, 14, .. 8, 0, 1, .. 7.
  Codes codes(32, 32);
  for (int n = 0; n < 32; ++n)
    for (int k = 0; k < 32; ++k) codes(k, n) = static_cast<std::uint8_t>(k % 16);
  Codes recoded(32, 32);
  const std::uint8_t table[] = {15, 14, 13, 12, 11, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7};
  for (Eigen::Index i = 0; i < codes.size(); ++i) recoded.data()[i] = table[codes.data()[i]];
  bytes.resize(packed_bytes(K{32}, N{32}, kU4B8));
  Bytes expected(bytes.size());
  const Recoding recoding{nullptr, 8, 32};
  pack_marlin_a8(codes, kU4B8, {N{32}}, bytes, &recoding);
  pack_marlin_a8(recoded, kU4B8, {N{32}}, expected);
  CHECK(bytes == expected);
}

TEST_CASE("worked examples of zero points", "[marlin][golden]") {
  const auto words = [](int bits, std::size_t count) {
    QuantizedMatrix q = plain(with_zeros(unsigned_integer(bits), DType::F16), Codes::Zero(256, 64));
    for (int n = 0; n < 64; ++n)
      q.zero_points(0, n) = q.zero_points(1, n) = static_cast<std::int16_t>(n % (1 << bits));
    return first<std::uint32_t>(part("marlin", q, "qzeros"), count);
  };
  CHECK(words(4, 2) == Words{0x88880000, 0x99991111});
  CHECK(words(8, 4) == Words{0x18081000, 0x38283020, 0x19091101, 0x39293121});
}

TEST_CASE("worked examples of scale orders, of FP8 and of NVFP4", "[marlin][golden]") {
  const auto quad = columns_in(ScaleOrder::quad, 64), sparse_order = columns_in(ScaleOrder::sparse, 64);
  const std::vector<Eigen::Index> quad_expected{0, 16, 8, 24, 32, 48, 40, 56, 1, 17, 9, 25},
      sparse_expected{0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13};
  CHECK(std::vector(quad.begin(), quad.begin() + 12) == quad_expected);
  CHECK(std::vector(sparse_order.begin(), sparse_order.begin() + 12) == sparse_expected);

  const auto fused = [](DType dtype) {
    QuantizedMatrix q = plain({kE4M3, std::nullopt, dtype}, Codes::Zero(128, 64));
    std::uint16_t bits = dtype == DType::F16 ? float_to_f16(0.0123f) : float_to_bf16(0.0123f);
    q.scales.setConstant(dtype == DType::F16 ? f16_to_float(bits) : bf16_to_float(bits));
    return first<std::uint16_t>(part("marlin", q, "scales"), 1)[0];
  };
  CHECK(fused(DType::F16) == 0x424c);
  CHECK(fused(DType::BF16) == 0x784a);

  CHECK(kernel_byte(1.0f) == 0xb0);
  CHECK(kernel_byte(0x1p-6f) == 0x80);
  CHECK(kernel_byte(448.0f) == 0xf6);
  const std::uint8_t small[] = {0x00, 0x68, 0x70, 0x74, 0x78, 0x7a, 0x7c, 0x7e};
  for (int x = 0; x < 0x7f; ++x) {
    const auto byte = static_cast<std::uint8_t>(x);
    CHECK(kernel_byte(e4m3_to_float(byte)) == (x < 8 ? small[x] : x + 120));
    CHECK(scale_of_kernel_byte(*kernel_byte(e4m3_to_float(byte))) == e4m3_to_float(byte));
  }
  CHECK_FALSE(kernel_byte(-0.0f));
  CHECK_FALSE(kernel_byte(-1.0f));
  CHECK_FALSE(kernel_byte(480.0f));
  for (const int byte : {0x01, 0x69, 0xf7, 0xf8, 0xff})
    CHECK_FALSE(scale_of_kernel_byte(static_cast<std::uint8_t>(byte)));
}

TEST_CASE("the worked example of 2:4", "[marlin][golden]") {
  constexpr int kPatterns[6][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};
  const auto packed = [&](ScalarType type, int step) {
    Codes codes = Codes::Constant(32, 64, static_cast<std::uint8_t>(type.bias));
    for (int a = 0; a < 64; ++a)
      for (int b = 0; b < 8; ++b) {
        const auto& [i, j] = kPatterns[(a + b) % 6];
        codes(4 * b + i, a) = static_cast<std::uint8_t>(type.bias + step * ((a + b) % 7 + 1));
        codes(4 * b + j, a) = static_cast<std::uint8_t>(type.bias - step * ((a + 2 * b) % 7 + 1));
      }
    std::pair<Bytes, Bytes> made{packed_bytes(K{32}, N{64}, type) / 2, meta_bytes_24(K{32}, N{64})};
    pack_marlin_24(codes, type, {N{64}}, made.first, made.second);
    return made;
  };
  const std::vector<std::uint16_t> meta{0x9c84, 0x84ed, 0x84ed, 0xed9c, 0xd9c8, 0xc84e, 0xc84e, 0x4ed9};
  const auto [words4, meta4] = packed(kU4B8, 1);
  CHECK(first<std::uint32_t>(words4, 4) == Words{0x2367add9, 0x1256beea, 0x7145cffb, 0x6734d99c});
  CHECK(first<std::uint16_t>(meta4, 8) == meta);
  const auto [words8, meta8] = packed(kU8B128, 5);
  CHECK(first<std::uint32_t>(words8, 4) == Words{0x767b9985, 0x62678a99, 0x71769e8a, 0x5d628f9e});
  CHECK(first<std::uint16_t>(meta8, 8) == meta);
}
