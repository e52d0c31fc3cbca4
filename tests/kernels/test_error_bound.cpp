// The bound against a tensor core made as bad as the derivation allows: it aligns the addends of a block to
// the largest and cuts all below 24 bits (14 with FP8), after every few products.

#include <algorithm>
#include <cmath>
#include <random>
#include <span>
#include <vector>

#include "kernels/error_bound.hpp"
#include "tests/kernels/layer.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

double cut(double value, int exponent, int bits) {
  const double unit = std::ldexp(1.0, exponent - bits + 1);
  return std::trunc(value / unit) * unit;
}

/// `addends` together, the running sum among them.
double cut_sum(std::span<const double> addends, int bits = 24) {
  int largest = -1000;
  for (double x : addends)
    if (x != 0) largest = std::max(largest, std::ilogb(x));
  if (largest == -1000) return 0;
  double sum = 0;
  for (double x : addends) sum += cut(x, largest, bits);
  return sum == 0 ? 0 : cut(sum, std::ilogb(sum), bits);
}

struct Data {
  std::vector<double> activations, codes, scales;  // scales: one per group of 32
  std::vector<double> zeros;                       // likewise; empty: the codes have none
  double bias = 0;
};

struct Outcome {
  double error, bound, magnitude;
};

Outcome multiply(const Data& data, Float type, bool grouped, int products_per_block, int splits) {
  const auto k_size = static_cast<std::int64_t>(data.codes.size());
  double product = 0, magnitude = 0, sum_abs = 0;
  std::vector<double> parts(at(splits), 0.0);
  std::vector<double> addends;
  const double column_scale = data.scales[0];
  const bool float_zeros = !data.zeros.empty();
  for (std::int64_t k = 0; k < k_size; ++k) {
    const double scale = grouped ? data.scales[at(k / 32)] : column_scale;
    const double difference = data.codes[at(k)] - (float_zeros ? data.zeros[at(k / 32)] : 0.0);
    const double rounded = from_bits(to_bits(static_cast<float>(difference), type), type);
    const double a = data.activations[at(k)], exact = difference * scale;
    product += a * exact;
    magnitude += std::abs(a * exact);
    sum_abs += std::abs(a);
    const double used =
        grouped ? from_bits(to_bits(static_cast<float>(rounded * scale), type), type) : rounded;
    addends.push_back(a * used);
    if (static_cast<int>(addends.size()) < products_per_block && k + 1 < k_size) continue;
    double& part = parts[at(k / 16 % splits)];
    addends.push_back(part);
    part = cut_sum(addends);
    addends.clear();
  }
  float sum = 0;
  for (double part : parts) sum += static_cast<float>(part);
  if (!grouped) sum *= static_cast<float>(column_scale);
  sum += static_cast<float>(data.bias);
  const double out = from_bits(to_bits(sum, type), type);
  return {std::abs(out - (product + data.bias)),
          gemm_error_bound(roundings_of(float_zeros ? Weight::u4_float_zeros : Weight::u4b8, type, grouped),
                           K{k_size}, product, magnitude, sum_abs, data.bias),
          magnitude};
}

}  // namespace

TEST_CASE("no rounding that the derivation admits leaves the bound", "[kernels]") {
  const int k_size = GENERATE(16, 64, 512, 4096), per_block = GENERATE(4, 8, 16), splits = GENERATE(1, 3, 32);
  const bool grouped = GENERATE(false, true), same_sign = GENERATE(false, true);
  const Float type = GENERATE(Float::f16, Float::bf16);
  CAPTURE(k_size, per_block, splits, grouped, same_sign, name_of(type));
  std::mt19937 rng{mpk::test::seed()};
  std::normal_distribution<float> gauss;
  std::uniform_int_distribution<int> code{-8, 7};
  std::uniform_real_distribution<float> zero{-9.0f, 8.0f};
  double worst[2] = {};  // without and with float zero points
  for (int round = 0; round < 8; ++round) {
    Data data;
    for (int k = 0; k < k_size; ++k) {
      const float a = gauss(rng) * (k % 61 == 7 ? 100.0f : 1.0f);
      data.activations.push_back(from_bits(to_bits(same_sign ? std::abs(a) : a, type), type));
      data.codes.push_back(same_sign ? std::abs(code(rng)) + 1 : code(rng));
      if (k % 32 == 0) {
        const float scale = same_sign ? std::abs(wild_value(rng)) / 64 : wild_value(rng);
        data.scales.push_back(from_bits(to_bits(scale, type), type));
        if (round % 4 >= 2) data.zeros.push_back(from_bits(to_bits(zero(rng), type), type));
      }
    }
    if (round % 2 == 1) data.bias = from_bits(to_bits(gauss(rng), type), type);
    const Outcome outcome = multiply(data, type, grouped, per_block, splits);
    REQUIRE(outcome.error <= outcome.bound);
    double& ratio = worst[data.zeros.empty() ? 0 : 1];
    if (outcome.magnitude > 1.0 && data.bias == 0) ratio = std::max(ratio, outcome.bound / outcome.magnitude);
  }
  // Useful, too: three kinds of rounding, two of half an ulp and the third below a thousandth of the
  // magnitudes.
  CHECK(worst[0] < (type == Float::f16 ? 3e-3 : 1e-2));
  CHECK(worst[1] < (type == Float::f16 ? 3.5e-3 : 1.4e-2));
}

namespace {

/// Activations of 8 bits with a scale of their row, weights that are whole numbers times the scale of their
/// group of 32 (or all times the first).
Outcome multiply8(const Data& data, double row_scale, const GemmRoundings& roundings, bool grouped,
                  int products_per_block, int splits) {
  const Activation8 type = *roundings.activations8;
  const auto k_size = static_cast<std::int64_t>(data.codes.size());
  double product = 0, magnitude = 0, sum_abs = 0;
  std::vector<float> parts(at(splits), 0.0f);
  std::vector<double> addends;
  double chain = 0;
  for (std::int64_t k = 0; k < k_size; ++k) {
    const double scale = data.scales[grouped ? at(k / 32) : 0], a = data.activations[at(k)];
    product += row_scale * a * data.codes[at(k)] * scale;
    magnitude += std::abs(row_scale * a * data.codes[at(k)] * scale);
    sum_abs += std::abs(row_scale * a);
    addends.push_back(a * data.codes[at(k)]);
    if (type == Activation8::int8) {
      chain += addends.back();
      addends.clear();
    } else if (static_cast<int>(addends.size()) == products_per_block) {
      addends.push_back(chain);
      chain = cut_sum(addends, 14);
      addends.clear();
    }
    const bool leaves = grouped                     ? k % 32 == 31
                        : type == Activation8::e4m3 ? k % kChain8 == kChain8 - 1 || k + 1 == k_size
                                                    : k + 1 == k_size;
    if (!leaves) continue;
    float& part = parts[at(k / 32 % splits)];
    part = std::fma(static_cast<float>(chain), grouped ? static_cast<float>(scale) : 1.0f, part);
    chain = 0;
  }
  float sum = 0;
  for (float part : parts) sum += part;
  if (!grouped) sum *= static_cast<float>(data.scales[0]);
  sum *= static_cast<float>(row_scale);
  sum += static_cast<float>(data.bias);
  const double out = from_bits(to_bits(sum, roundings.output), roundings.output);
  return {std::abs(out - (product + data.bias)),
          gemm_error_bound(roundings, K{k_size}, product, magnitude, sum_abs, data.bias), magnitude};
}

}  // namespace

TEST_CASE("no rounding of 8-bit products that the derivation admits leaves the bound", "[kernels][a8]") {
  const int k_size = GENERATE(32, 512, 4096), per_block = GENERATE(4, 8, 32), splits = GENERATE(1, 3, 16);
  const bool grouped = GENERATE(false, true), same_sign = GENERATE(false, true);
  const Float output = GENERATE(Float::f16, Float::bf16);
  const auto [type, whole] = GENERATE(table<Activation8, bool>(
      {{Activation8::int8, false}, {Activation8::e4m3, false}, {Activation8::e4m3, true}}));
  CAPTURE(k_size, per_block, splits, grouped, same_sign, name_of(output), name_of(type), whole);
  std::mt19937 rng{mpk::test::seed()};
  std::normal_distribution<float> gauss;
  std::uniform_int_distribution<int> code{whole ? -15 : -8, whole ? 14 : 7}, byte{0, 0x7e},
      integer{-128, 127}, small{-kExactFp8, kExactFp8};
  GemmRoundings roundings = roundings_of(type, output, grouped);
  roundings.exact_fp8 = whole;
  double worst = 0;
  for (int round = 0; round < 8; ++round) {
    Data data;
    for (int k = 0; k < k_size; ++k) {
      const double a = whole ? small(rng)
                       : type == Activation8::int8
                           ? integer(rng)
                           : std::copysign(value_of(type, static_cast<std::byte>(byte(rng))), gauss(rng));
      data.activations.push_back(same_sign ? std::abs(a) : a);
      data.codes.push_back(same_sign ? std::abs(code(rng)) + 1 : code(rng));
      if (k % 32 == 0) {
        const float scale = same_sign ? std::abs(wild_value(rng)) / 64 : wild_value(rng);
        data.scales.push_back(from_bits(to_bits(scale, output), output));
      }
    }
    if (round % 2 == 1) data.bias = from_bits(to_bits(gauss(rng), output), output);
    const double row_scale = std::abs(static_cast<double>(gauss(rng))) / 64;
    const Outcome outcome = multiply8(data, static_cast<double>(static_cast<float>(row_scale)), roundings,
                                      grouped, per_block, splits);
    REQUIRE(outcome.error <= outcome.bound);
    if (outcome.magnitude > 1.0 && data.bias == 0) worst = std::max(worst, outcome.bound / outcome.magnitude);
  }
  // Half an ulp of the output and, of FP8 that is not whole, a fortieth of the magnitudes.
  CHECK(worst < (output == Float::f16 ? 1e-3 : 5e-3) + (type == Activation8::e4m3 && !whole ? 0.025 : 0.0));
}

TEST_CASE("the bound sees what it should", "[kernels]") {
  const auto bound = [](Weight weight, Float type, bool grouped, double product, double magnitude,
                        double sum_abs, double bias = 0) {
    return gemm_error_bound(roundings_of(weight, type, grouped), K{16}, product, magnitude, sum_abs, bias);
  };
  SECTION("an exact result still rounds to the type of the output") {
    REQUIRE(bound(Weight::u4b8, Float::f16, false, 1.0, 1.0, 1.0) >= 0x1p-11);
    REQUIRE(bound(Weight::u4b8, Float::bf16, false, 1.0, 1.0, 1.0) >= 0x1p-8);
    REQUIRE(bound(Weight::u4b8, Float::bf16, false, 1.0, 1.0, 1.0) < 0x1.1p-8);
  }
  SECTION("so does one that a bias makes large") {
    REQUIRE(bound(Weight::u4b8, Float::f16, false, 0.0, 0.0, 0.0, 1024.0) >= 0.5);
    REQUIRE(bound(Weight::u4b8, Float::f16, false, -1024.0, 0.0, 0.0, 1024.0) < 0.5);
  }
  SECTION("weights of groups round, those of 4-bit floats do not") {
    REQUIRE(bound(Weight::u8b128, Float::bf16, true, 0.0, 1.0, 1.0) >= 0x1p-8);
    REQUIRE(bound(Weight::u8b128, Float::bf16, false, 0.0, 1.0, 1.0) < 0x1p-17);
    REQUIRE(bound(Weight::nvfp4, Float::bf16, true, 0.0, 1.0, 1.0) < 0x1p-17);
    REQUIRE(bound(Weight::mxfp4, Float::bf16, true, 0.0, 1.0, 1.0) < 0x1p-17);
  }
  SECTION("float zero points add a rounding to every weight") {
    REQUIRE(bound(Weight::u4_float_zeros, Float::bf16, true, 0.0, 1.0, 1.0) >= 0x1p-7);
    REQUIRE(bound(Weight::u4_float_zeros, Float::bf16, false, 0.0, 1.0, 1.0) >= 0x1p-8);
    REQUIRE(bound(Weight::u4_float_zeros, Float::bf16, false, 0.0, 1.0, 1.0) < 0x1.1p-8);
  }
  SECTION("in f16 what decoding leaves out of a zero point counts as much as the scale") {
    const auto with_scale = [](Float type, double scale) {
      const GemmRoundings roundings = roundings_of(Weight::u4_float_zeros, type, false);
      return gemm_error_bound(roundings.with_scales_up_to(scale), K{16}, 0.0, 0.0, 1.0);
    };
    REQUIRE(with_scale(Float::f16, 4.0) - with_scale(Float::f16, 0.0) >= 4 * 0x1p-15);
    REQUIRE(with_scale(Float::f16, 4.0) - with_scale(Float::f16, 0.0) < 4 * 0x1.1p-15);
    REQUIRE(with_scale(Float::bf16, 4.0) == with_scale(Float::bf16, 0.0));
  }
  SECTION("tiny weights round to multiples of 2^-24") {
    REQUIRE(bound(Weight::u4b8, Float::f16, true, 0.0, 0.0, 1000.0) >= 1000.0 * 0x1p-25);
    REQUIRE(bound(Weight::u4b8, Float::f16, false, 0.0, 0.0, 1000.0) == 0x1p-25);
  }
  SECTION("float16 overflows, bfloat16 much later") {
    REQUIRE(std::isinf(bound(Weight::u4b8, Float::f16, false, 65519.9, 65519.9, 1.0)));
    REQUIRE(std::isfinite(bound(Weight::u4b8, Float::f16, false, 65000.0, 65000.0, 1.0)));
    REQUIRE(std::isinf(bound(Weight::u4b8, Float::f16, false, 65000.0, 65000.0, 1.0, 600.0)));
    REQUIRE(std::isfinite(bound(Weight::u4b8, Float::bf16, false, 1e38, 1e38, 1.0)));
    REQUIRE(std::isinf(bound(Weight::u4b8, Float::bf16, false, 3.4e38, 3.4e38, 1.0)));
  }
  SECTION("integers of 8 bits are nearly exact, FP8 is not, but no worse the deeper it gets") {
    const auto bound8 = [](Activation8 type, std::int64_t k) {
      return gemm_error_bound(roundings_of(type, Float::f16, true), K{k}, 0.0, 1.0, 0.01);
    };
    REQUIRE(bound8(Activation8::int8, 4096) < 0x1p-14);
    REQUIRE(bound8(Activation8::e4m3, 32) > 0x1p-13);
    REQUIRE(bound8(Activation8::e4m3, 128) < 0x1p-5);
    REQUIRE(bound8(Activation8::e4m3, 8192) < 1.01 * bound8(Activation8::e4m3, 128));
  }
  SECTION("grows with K") {
    const GemmRoundings roundings = roundings_of(Weight::u4b8, Float::f16, true);
    REQUIRE(gemm_error_bound(roundings, K{8192}, 0.0, 1.0, 1.0) >
            gemm_error_bound(roundings, K{4096}, 0.0, 1.0, 1.0));
  }
}
