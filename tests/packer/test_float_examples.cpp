// Floating-point formats against other statements of them: golden bytes, FORMAT.md's examples, and formulas
// in double precision over tensors that the test itself lays out.

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "packer/io/sha256.hpp"
#include "tests/packer/float_cases.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;
using Json = nlohmann::json;

namespace {

using Bytes = std::vector<std::uint8_t>;

double e2m1(unsigned code) {
  constexpr double kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return code < 8 ? kValues[code] : -kValues[code - 8];
}
double e4m3(unsigned code) {
  const int e = static_cast<int>(code >> 3 & 15), m = static_cast<int>(code & 7);
  const double magnitude = e == 0 ? m * std::ldexp(1, -9) : (1 + m / 8.0) * std::ldexp(1, e - 7);
  return code < 128 ? magnitude : -magnitude;
}

Bytes random_bytes(std::int64_t count, unsigned seed, unsigned lowest = 0, unsigned highest = 255) {
  std::mt19937 random{seed};
  Bytes bytes(static_cast<std::size_t>(count));
  for (std::uint8_t& byte : bytes)
    byte = static_cast<std::uint8_t>(lowest + random() % (highest - lowest + 1));
  return bytes;
}
/// E4M3 without NaN.
Bytes random_e4m3(std::int64_t count, unsigned seed) {
  Bytes bytes = random_bytes(count, seed);
  for (std::uint8_t& byte : bytes)
    if ((byte & 0x7f) == 0x7f) byte ^= 1;
  return bytes;
}
std::vector<float> random_floats(std::int64_t count, unsigned seed) {
  std::mt19937 random{seed};
  std::vector<float> floats(static_cast<std::size_t>(count));
  for (float& value : floats)
    value = (static_cast<float>(random() % 20001) / 10000 - 1) * 0.03f + 1e-5f;  // either sign, never 0
  return floats;
}

template <class T>
TensorView view(DType dtype, Shape shape, const std::vector<T>& data) {
  return {dtype, std::move(shape), std::as_bytes(std::span{data})};
}

MatrixF weights(const PartViews& parts, const Claims& claims, const char* row) {
  const auto stored = recognize(parts, claims);
  REQUIRE(stored);
  CHECK(std::string{stored->format->name} == row);
  return dequantize(read_columns(*stored, parts, {0, stored->geometry.n.value}));
}

/// Every weight is the formula's number, rounded to float32 as often as `roundings` says.
template <class Formula>
void check_weights(const MatrixF& found, Formula formula, int roundings) {
  bool good = true;
  for (Eigen::Index n = 0; n < found.cols(); ++n)
    for (Eigen::Index k = 0; k < found.rows(); ++k) {
      const double expected = formula(k, n), error = std::abs(found(k, n) - expected);
      good &= roundings == 0 ? error == 0 : error <= roundings * 0x1p-24 * std::abs(expected) + 0x1p-150;
    }
  CHECK(good);
}

const std::string& format_md() {
  static const std::string text = read_file(std::filesystem::path{MPK_SOURCE_DIR} / "packer" / "FORMAT.md");
  return text;
}

}  // namespace

// oracle_vectors.json: one run of an independent Python program. A case has dtype, shape, the SHA-256 of the
// little-endian bytes, the first eight elements in hex and its input: x = x * 1664525 + 1013904223 from
// `seed`, the top bits of each new x a code, row-major over [K, N].
TEST_CASE("golden FP4 bytes of an independent program", "[float][golden]") {
  const Json file = Json::parse(read_file(golden("oracle_vectors.json")));
  int seen = 0;
  for (const Json& c : file.at("cases")) {
    if (c.at("name") != "fp4_weight_packed") continue;
    ++seen;
    Codes codes(c.at("K").get<Eigen::Index>(), c.at("N").get<Eigen::Index>());
    auto x = c.at("seed").get<std::uint32_t>();
    for (Eigen::Index k = 0; k < codes.rows(); ++k)
      for (Eigen::Index n = 0; n < codes.cols(); ++n) {
        x = x * 1664525u + 1013904223u;
        codes(k, n) = static_cast<std::uint8_t>(x >> 28);
      }
    for (const FloatCase& of :
         {FloatCase{"ct-nvfp4-pack-quantized", nvfp4_scheme(GlobalScale::divides), 0, 0},
          FloatCase{"modelopt-nvfp4", nvfp4_scheme(GlobalScale::multiplies), 0, 0},
          FloatCase{"ct-mxfp4-pack-quantized", mx_scheme(kE2M1), 0, 0},
          FloatCase{"gpt-oss-mxfp4", mx_scheme(kE2M1), 0, 0}}) {
      QuantizedMatrix q = make_matrix(of.scheme, K{codes.rows()}, N{codes.cols()});
      q.codes = codes;
      q.scales.setOnes();
      const Tensor packed = row_named(of.format).encode(q)[0].tensor;
      CHECK(packed.shape[0] == c.at("shape")[0].get<std::int64_t>());
      CHECK(sha256(packed.data) == c.at("sha256").get<std::string>());
      for (std::size_t i = 0; i < c.at("first").size(); ++i)
        CHECK(fmt::format("{:x}", static_cast<unsigned>(packed.data[i])) ==
              c.at("first")[i].get<std::string>());
    }
  }
  CHECK(seen == 1);
}

TEST_CASE("worked examples: floating-point codes", "[float][format.md]") {
  const Bytes packed{0xa2, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, twos{0x40}, half{126};
  const std::vector<float> two{2.0f}, point_five{0.5f};
  const auto first_four = [](const MatrixF& w) {
    return std::vector<float>{w(0, 0), w(1, 0), w(2, 0), w(3, 0)};
  };
  CHECK(first_four(
            weights({{"weight_packed", view(DType::U8, {1, 8}, Bytes(packed.begin(), packed.begin() + 8))},
                     {"weight_scale", view(DType::F8_E4M3, {1, 1}, twos)},
                     {"weight_global_scale", view(DType::F32, {1}, two)}},
                    {}, "ct-nvfp4-pack-quantized")) == std::vector<float>{1, -1, 6, 0});
  CHECK(first_four(weights({{"weight_packed", view(DType::U8, {1, 16}, packed)},
                            {"weight_scale", view(DType::U8, {1, 1}, half)}},
                           {}, "ct-mxfp4-pack-quantized")) == std::vector<float>{0.5f, -0.5f, 3, 0});
  CHECK(mentions(format_md(), "| e2m1 | 2, 10, 7, 0 | `a2 07` |"));
  CHECK(mentions(format_md(), "these are the weights 1, -1, 6, 0"));
  CHECK(mentions(format_md(), "they are 0.5, -0.5, 3, 0"));
  const Bytes fp8{0x38, 0xb8, 0x7e, 0x01};
  CHECK(first_four(weights({{"weight", view(DType::F8_E4M3, {1, 4}, fp8)},
                            {"weight_scale", view(DType::F32, {1}, point_five)}},
                           {}, "ct-float-quantized")) == std::vector<float>{0.5f, -0.5f, 224, 0x1p-10f});
  CHECK(mentions(format_md(), "0.5, -0.5, 224, 0.0009765625"));
}

TEST_CASE("FP8 files of other tools mean what their formulas say", "[float]") {
  constexpr std::int64_t kK = 300, kN = 200;
  const Bytes codes = random_e4m3(kN * kK, seed());
  const TensorView weight = view(DType::F8_E4M3, {kN, kK}, codes);
  const auto code = [&](auto k, auto n) { return e4m3(codes[static_cast<std::size_t>(n * kK + k)]); };
  const auto at = [](const std::vector<float>& scales, auto i) {
    return static_cast<double>(scales[static_cast<std::size_t>(i)]);
  };
  SECTION("DeepSeek: blocks of 128 x 128, partial at both edges") {
    const auto scales = random_floats(2 * 3, seed());
    const PartViews parts{{"weight", weight}, {"weight_scale_inv", view(DType::F32, {2, 3}, scales)}};
    Claims claims{.method = "fp8", .group_size = 128};
    claims.block_columns = 128;
    check_weights(
        weights(parts, claims, "fp8"),
        [&](auto k, auto n) { return code(k, n) * at(scales, n / 128 * 3 + k / 128); }, 1);
  }
  SECTION("ModelOpt FP8_PB_WO") {
    const auto scales = random_floats(2 * 3, seed());
    const PartViews parts{{"weight", weight}, {"weight_scale", view(DType::F32, {2, 1, 3, 1}, scales)}};
    check_weights(
        weights(parts, {.method = "modelopt"}, "fp8"),
        [&](auto k, auto n) { return code(k, n) * at(scales, n / 128 * 3 + k / 128); }, 1);
  }
  SECTION("static, one scale per tensor, a companion beside it") {
    const std::vector<float> scale{0.0123f}, input{0.5f};
    for (const Shape& shape : {Shape{}, Shape{1}})
      for (const char* method : {"fp8", "modelopt", ""}) {
        const PartViews parts{{"weight", weight},
                              {"weight_scale", view(DType::F32, shape, scale)},
                              {"input_scale", view(DType::F32, shape, input)}};
        check_weights(
            weights(parts, {.method = method}, *method == 0 ? "ct-float-quantized" : "fp8"),
            [&](auto k, auto n) { return code(k, n) * at(scale, 0); }, 1);
      }
  }
  SECTION("per channel") {
    const auto scales = random_floats(kN, seed());
    const PartViews parts{{"weight", weight}, {"weight_scale", view(DType::F32, {kN}, scales)}};
    check_weights(
        weights(parts, {.method = "modelopt"}, "fp8"),
        [&](auto k, auto n) { return code(k, n) * at(scales, n); }, 1);
  }
  SECTION("GPTQModel divides") {
    const auto scales = random_floats(kN, seed());
    for (const Shape& shape : {Shape{kN}, Shape{kN, 1}}) {
      const PartViews parts{{"weight", weight}, {"weight_scale_inv", view(DType::F32, shape, scales)}};
      Claims claims{.method = "fp8"};
      claims.scales_are_inverse = true;
      check_weights(
          weights(parts, claims, "fp8"), [&](auto k, auto n) { return code(k, n) / at(scales, n); }, 1);
    }
  }
}

TEST_CASE("NVFP4 and MX files of other tools mean what their formulas say", "[float]") {
  constexpr std::int64_t kK = 96, kN = 150;
  const Bytes packed = random_bytes(kN * kK / 2, seed()), codes = random_e4m3(kN * kK, seed()),
              e8m0 = random_bytes(kN * kK / 32, seed() + 1, 0, 254),
              blocks = random_e4m3(kN * kK / 16, seed() + 2);
  const auto code = [&](auto k, auto n) {
    return e2m1(packed[static_cast<std::size_t>(n * kK / 2 + k / 2)] >> (k % 2 * 4) & 15);
  };
  const auto block = [&](auto k, auto n) {
    return e4m3(blocks[static_cast<std::size_t>(n * kK / 16 + k / 16)]);
  };
  const auto power = [&](auto k, auto n) {
    return std::ldexp(1.0, e8m0[static_cast<std::size_t>(n * kK / 32 + k / 32)] - 127);
  };
  const std::vector<float> global{0.0031f};
  const TensorView u8 = view(DType::U8, {kN, kK / 2}, packed),
                   nv = view(DType::F8_E4M3, {kN, kK / 16}, blocks);

  check_weights(
      weights({{"weight_packed", u8},
               {"weight_scale", nv},
               {"weight_global_scale", view(DType::F32, {1}, global)},
               {"input_global_scale", view(DType::F32, {1}, global)}},
              {}, "ct-nvfp4-pack-quantized"),
      [&](auto k, auto n) { return code(k, n) * block(k, n) / static_cast<double>(global[0]); }, 1);
  check_weights(
      weights({{"weight", u8},
               {"weight_scale", nv},
               {"weight_scale_2", view(DType::F32, {}, global)},
               {"input_scale", view(DType::F32, {}, global)}},
              {.method = "modelopt", .dialect = "nvfp4"}, "modelopt-nvfp4"),
      [&](auto k, auto n) { return code(k, n) * block(k, n) * static_cast<double>(global[0]); }, 1);
  for (const DType dtype : {DType::U8, DType::F8_E8M0}) {
    const TensorView scales = view(dtype, {kN, kK / 32}, e8m0);
    const auto mxfp4 = [&](auto k, auto n) {
      const double value = code(k, n) * power(k, n);  // past 2^128 a float32 is infinite
      return std::abs(value) < 0x1p128 ? value : std::copysign(HUGE_VAL, value);
    };
    const auto check_exact = [](const MatrixF& found, auto formula) {
      bool good = true;
      for (Eigen::Index n = 0; n < found.cols(); ++n)
        for (Eigen::Index k = 0; k < found.rows(); ++k) good &= found(k, n) == formula(k, n);
      CHECK(good);
    };
    check_exact(weights({{"weight_packed", u8}, {"weight_scale", scales}}, {}, "ct-mxfp4-pack-quantized"),
                mxfp4);
    check_exact(weights({{"blocks", view(DType::U8, {kN, kK / 32, 16}, packed)}, {"scales", scales}},
                        {.method = "mxfp4"}, "gpt-oss-mxfp4"),
                mxfp4);
    for (const char* method : {"", "modelopt", "compressed-tensors"})
      check_exact(weights({{"weight", view(DType::F8_E4M3, {kN, kK}, codes)}, {"weight_scale", scales}},
                          {.method = method}, "ct-mxfp8-quantized"),
                  [&](auto k, auto n) {
                    const double value = e4m3(codes[static_cast<std::size_t>(n * kK + k)]) * power(k, n);
                    return std::abs(value) < 0x1p128 ? value : std::copysign(HUGE_VAL, value);
                  });
  }
}
