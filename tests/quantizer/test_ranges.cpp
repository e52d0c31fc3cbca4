#include <cmath>

#include "quantizer/ranges.hpp"
#include "quantizer/rounding.hpp"
#include "tests/quantizer/errors.hpp"
#include "tests/quantizer/layers.hpp"
#include "tests/support/catch.hpp"

namespace mpk {
namespace {

QuantizerOptions options_for(ScalarType type, Ranges ranges, DType dtype = DType::F16,
                             bool signed_scales = false) {
  QuantizerOptions options;
  options.scheme = {type, GroupSize{128}, dtype};
  options.ranges = ranges;
  options.signed_scales = signed_scales;
  return options;
}

/// sum importance |w - w_hat|^2.4, by the definition.
double distance_of(std::span<const float> weights, float scale, ScalarType type,
                   std::span<const float> importance = {}) {
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double level = std::nearbyint(static_cast<double>(weights[i]) / scale);
    const double clamped = std::min<double>(std::max<double>(level, -type.bias), type.max_code() - type.bias);
    sum += std::pow(std::abs(weights[i] - clamped * scale), 2.4) * (importance.empty() ? 1.0 : importance[i]);
  }
  return sum;
}

bool storable(float scale, DType dtype) {
  const float back =
      dtype == DType::F16 ? f16_to_float(float_to_f16(scale)) : bf16_to_float(float_to_bf16(scale));
  return back == scale && scale != 0 && std::isfinite(scale);
}

/// Bell-shaped with an outlier on one side, times `size`.
std::vector<float> random_group(unsigned seed, float size = 1.0f) {
  const MatrixF m = size * test::random_matrix(128, 1, seed);
  std::vector<float> group(m.data(), m.data() + m.size());
  group[seed % 128] *= 3.0f;
  return group;
}

TEST_CASE("distance is |x|^2.4", "[ranges]") {
  REQUIRE(distance(0.0f) == 0.0f);
  for (double x = 1e-6; x < 1e4; x *= 1.0173) {
    const auto value = static_cast<float>(x);
    CAPTURE(value);
    REQUIRE(std::abs(distance(value) / std::pow(value, 2.4) - 1) <= 32 * test::kUnitRoundoff);
    REQUIRE(distance(-value) == distance(value));
  }
}

TEST_CASE("minmax reaches the largest weight from either side", "[ranges]") {
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const DType dtype = GENERATE(DType::F16, DType::BF16);
  const auto group = random_group(test::seed());
  float largest = 0;
  for (float w : group) largest = std::max(largest, std::abs(w));
  const float scale = ScaleSearch{options_for(type, Ranges::minmax, dtype)}(group);
  REQUIRE(storable(scale, dtype));
  REQUIRE(std::abs(scale * (static_cast<float>(type.max_code()) / 2) / largest - 1) <=
          (dtype == DType::F16 ? 0x1p-11 : 0x1p-8) * 1.001);
}

TEST_CASE("mse is never worse than minmax by its own measure, whatever the size of the weights", "[ranges]") {
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const DType dtype = GENERATE(DType::F16, DType::BF16);
  const bool signed_scales = GENERATE(false, true);
  const float size = GENERATE(1e-6f, 1e-3f, 1.0f, 1e4f);
  for (unsigned i = 0; i < 50; ++i) {
    const auto group = random_group(test::seed() + i, size);
    const float mse = ScaleSearch{options_for(type, Ranges::mse, dtype, signed_scales)}(group);
    const float minmax = ScaleSearch{options_for(type, Ranges::minmax, dtype)}(group);
    CAPTURE(i, mse, minmax, size);
    REQUIRE(storable(mse, dtype));
    REQUIRE((signed_scales || mse > 0));
    REQUIRE(distance_of(group, mse, type) <= distance_of(group, minmax, type) * (1 + 1e-5));
  }
}

TEST_CASE("mse finds the best of its candidates", "[ranges]") {
  for (unsigned i = 0; i < 20; ++i) {
    const auto group = random_group(test::seed() + i);
    const float unit = ScaleSearch{options_for(kU4B8, Ranges::minmax, DType::BF16)}(group);
    const double found =
        distance_of(group, ScaleSearch{options_for(kU4B8, Ranges::mse, DType::BF16)}(group), kU4B8);
    for (int p = 20; p <= 100; ++p) {
      const float other = representable_scale(unit * static_cast<float>(p) / 100.0f, DType::BF16);
      // `unit` itself is rounded here, so a candidate may be one step off; steps are 1/128 or less.
      CAPTURE(i, p);
      REQUIRE(found <= distance_of(group, other, kU4B8) * 1.05);
    }
  }
}

TEST_CASE("signed scales give the longer side the extra code", "[ranges]") {
  std::vector<float> group = random_group(test::seed());
  group[0] = 6.0f;
  const ScaleSearch plain{options_for(kU4B8, Ranges::minmax)};
  const ScaleSearch either{options_for(kU4B8, Ranges::minmax, DType::F16, true)};
  REQUIRE(distance_of(group, either(group), kU4B8) <= distance_of(group, plain(group), kU4B8) * (1 + 1e-5));

  double with = 0, without = 0;
  for (unsigned i = 0; i < 100; ++i) {
    const auto g = random_group(test::seed() + i);
    with += distance_of(g, ScaleSearch{options_for(kU4B8, Ranges::mse, DType::F16, true)}(g), kU4B8);
    without += distance_of(g, ScaleSearch{options_for(kU4B8, Ranges::mse)}(g), kU4B8);
  }
  REQUIRE(with < without);
}

TEST_CASE("importance moves the choice towards what matters", "[ranges]") {
  const auto group = random_group(test::seed());
  std::vector<float> importance(group.size());
  for (std::size_t i = 0; i < group.size(); ++i) importance[i] = i % 8 == 0 ? 100.0f : 1.0f;
  const ScaleSearch search{options_for(kU4B8, Ranges::mse)};
  REQUIRE(distance_of(group, search(group, importance), kU4B8, importance) <=
          distance_of(group, search(group), kU4B8, importance) * (1 + 1e-5));
  REQUIRE(search(group, std::vector<float>(group.size(), 1.0f)) == search(group));
}

TEST_CASE("groups too small for the scale's dtype get the smallest scale", "[ranges]") {
  const DType dtype = GENERATE(DType::F16, DType::BF16);
  const Ranges ranges = GENERATE(Ranges::minmax, Ranges::mse);
  const float size = GENERATE(0.0f, 1e-42f, 1e-38f);
  const std::vector<float> group(128, size);
  const float scale = ScaleSearch{options_for(kU4B8, ranges, dtype)}(group);
  REQUIRE(scale == smallest_scale(dtype));
  REQUIRE(storable(scale, dtype));
}

TEST_CASE("a scale past the dtype's largest is refused, and just below it is not", "[ranges]") {
  const Ranges ranges = GENERATE(Ranges::minmax, Ranges::mse);
  const bool signed_scales = GENERATE(false, true);
  const std::vector<float> fits(128, 65504.0f * 7.5f), too_large(128, 65536.0f * 7.5f);
  const ScaleSearch f16{options_for(kU4B8, ranges, DType::F16, signed_scales)};
  REQUIRE(storable(f16(fits), DType::F16));
  const auto error = test::error_of([&] { f16(too_large); });
  for (const char* part : {"65536", "65504", "BF16"})
    test::require_error(error, ErrorKind::unsupported, part);
  REQUIRE(
      storable(ScaleSearch{options_for(kU4B8, ranges, DType::BF16, signed_scales)}(too_large), DType::BF16));
}

TEST_CASE("find_scales gives each group its own scale", "[ranges]") {
  const MatrixF weight = test::random_matrix(256, 5, test::seed());
  const auto options = options_for(kU4B8, Ranges::mse);
  const MatrixF scales = find_scales(weight, options);
  REQUIRE((scales.rows() == 2 && scales.cols() == 5));
  for (Eigen::Index n = 0; n < 5; ++n)
    for (Eigen::Index group = 0; group < 2; ++group) {
      const std::vector<float> rows(weight.col(n).data() + group * 128,
                                    weight.col(n).data() + (group + 1) * 128);
      REQUIRE(scales(group, n) == ScaleSearch{options}(rows));
    }
}

}  // namespace
}  // namespace mpk
