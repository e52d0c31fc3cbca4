// The bound against a tensor core made as bad as the derivation allows: it aligns the addends of a block to
// the largest and cuts all below 24 bits, after every few products.

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

double cut(double value, int exponent) {
  const double unit = std::ldexp(1.0, exponent - 23);
  return std::trunc(value / unit) * unit;
}

/// `addends` together, the running sum among them.
double cut_sum(std::span<const double> addends) {
  int largest = -1000;
  for (double x : addends)
    if (x != 0) largest = std::max(largest, std::ilogb(x));
  if (largest == -1000) return 0;
  double sum = 0;
  for (double x : addends) sum += cut(x, largest);
  return sum == 0 ? 0 : cut(sum, std::ilogb(sum));
}

struct Data {
  std::vector<double> activations, codes, scales;  // scales: one per group of 32
};

struct Outcome {
  double error, bound, magnitude;
};

Outcome multiply(const Data& data, bool grouped, int products_per_block, int splits) {
  const auto k_size = static_cast<std::int64_t>(data.codes.size());
  double product = 0, magnitude = 0, sum_abs = 0;
  std::vector<double> parts(at(splits), 0.0);
  std::vector<double> addends;
  const double column_scale = data.scales[0];
  for (std::int64_t k = 0; k < k_size; ++k) {
    const double scale = grouped ? data.scales[at(k / 32)] : column_scale;
    const double a = data.activations[at(k)], exact = data.codes[at(k)] * scale;
    product += a * exact;
    magnitude += std::abs(a * exact);
    sum_abs += std::abs(a);
    const double used = grouped ? f16_to_float(float_to_f16(static_cast<float>(exact))) : data.codes[at(k)];
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
  const double out = f16_to_float(float_to_f16(sum));
  return {std::abs(out - product), gemm_error_bound(K{k_size}, grouped, product, magnitude, sum_abs),
          magnitude};
}

}  // namespace

TEST_CASE("no rounding that the derivation admits leaves the bound", "[kernels]") {
  const int k_size = GENERATE(16, 64, 512, 4096), per_block = GENERATE(4, 8, 16), splits = GENERATE(1, 3, 32);
  const bool grouped = GENERATE(false, true), same_sign = GENERATE(false, true);
  CAPTURE(k_size, per_block, splits, grouped, same_sign);
  std::mt19937 rng{mpk::test::seed()};
  std::normal_distribution<float> gauss;
  std::uniform_int_distribution<int> code{-8, 7};
  double worst = 0;
  for (int round = 0; round < 8; ++round) {
    Data data;
    for (int k = 0; k < k_size; ++k) {
      const float a = gauss(rng) * (k % 61 == 7 ? 100.0f : 1.0f);
      data.activations.push_back(f16_to_float(float_to_f16(same_sign ? std::abs(a) : a)));
      data.codes.push_back(same_sign ? std::abs(code(rng)) + 1 : code(rng));
      if (k % 32 == 0) data.scales.push_back(f16_to_float(wild_scale(rng)) / (same_sign ? 64 : 1));
    }
    if (same_sign)
      for (double& s : data.scales) s = f16_to_float(float_to_f16(static_cast<float>(std::abs(s))));
    else
      for (double& s : data.scales) s = f16_to_float(float_to_f16(static_cast<float>(s)));
    const Outcome outcome = multiply(data, grouped, per_block, splits);
    REQUIRE(outcome.error <= outcome.bound);
    if (outcome.magnitude > 1.0) worst = std::max(worst, outcome.bound / outcome.magnitude);
  }
  // Useful, too: three kinds of rounding, each below a thousandth of the magnitudes.
  CHECK(worst < 3e-3);
}

TEST_CASE("the bound sees what it should", "[kernels]") {
  SECTION("an exact result still rounds to float16") {
    REQUIRE(gemm_error_bound(K{16}, false, 1.0, 1.0, 1.0) >= 0x1p-11);
  }
  SECTION("tiny weights round to multiples of 2^-24") {
    REQUIRE(gemm_error_bound(K{16}, true, 0.0, 0.0, 1000.0) >= 1000.0 * 0x1p-25);
    REQUIRE(gemm_error_bound(K{16}, false, 0.0, 0.0, 1000.0) == 0x1p-25);
  }
  SECTION("float16 overflows") {
    REQUIRE(std::isinf(gemm_error_bound(K{16}, false, 65519.9, 65519.9, 1.0)));
    REQUIRE(std::isfinite(gemm_error_bound(K{16}, false, 65000.0, 65000.0, 1.0)));
  }
  SECTION("grows with K") {
    REQUIRE(gemm_error_bound(K{8192}, true, 0.0, 1.0, 1.0) > gemm_error_bound(K{4096}, true, 0.0, 1.0, 1.0));
  }
}
