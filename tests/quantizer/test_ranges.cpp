#include <algorithm>
#include <cmath>

#include "quantizer/distance.hpp"
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

float scale_of(const QuantizerOptions& options, std::span<const float> group,
               std::span<const float> importance = {}) {
  return RangeSearch{options}(group, importance).scale;
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
  REQUIRE(power_2_4(0.0f) == 0.0f);
  for (double x = 1e-6; x < 1e4; x *= 1.0173) {
    const auto value = static_cast<float>(x);
    CAPTURE(value);
    REQUIRE(std::abs(power_2_4(value) / std::pow(value, 2.4) - 1) <= 32 * test::kUnitRoundoff);
    REQUIRE(power_2_4(-value) == power_2_4(value));
  }
}

TEST_CASE("minmax reaches the largest weight from either side", "[ranges]") {
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const DType dtype = GENERATE(DType::F16, DType::BF16);
  const auto group = random_group(test::seed());
  float largest = 0;
  for (float w : group) largest = std::max(largest, std::abs(w));
  const float scale = scale_of(options_for(type, Ranges::minmax, dtype), group);
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
    const float mse = scale_of(options_for(type, Ranges::mse, dtype, signed_scales), group);
    const float minmax = scale_of(options_for(type, Ranges::minmax, dtype), group);
    CAPTURE(i, mse, minmax, size);
    REQUIRE(storable(mse, dtype));
    REQUIRE((signed_scales || mse > 0));
    REQUIRE(distance_of(group, mse, type) <= distance_of(group, minmax, type) * (1 + 1e-5));
  }
}

TEST_CASE("mse finds the best of its candidates", "[ranges]") {
  for (unsigned i = 0; i < 20; ++i) {
    const auto group = random_group(test::seed() + i);
    const float unit = scale_of(options_for(kU4B8, Ranges::minmax, DType::BF16), group);
    const double found =
        distance_of(group, scale_of(options_for(kU4B8, Ranges::mse, DType::BF16), group), kU4B8);
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
  const auto plain = options_for(kU4B8, Ranges::minmax);
  const auto either = options_for(kU4B8, Ranges::minmax, DType::F16, true);
  REQUIRE(distance_of(group, scale_of(either, group), kU4B8) <=
          distance_of(group, scale_of(plain, group), kU4B8) * (1 + 1e-5));

  double with = 0, without = 0;
  for (unsigned i = 0; i < 100; ++i) {
    const auto g = random_group(test::seed() + i);
    with += distance_of(g, scale_of(options_for(kU4B8, Ranges::mse, DType::F16, true), g), kU4B8);
    without += distance_of(g, scale_of(options_for(kU4B8, Ranges::mse), g), kU4B8);
  }
  REQUIRE(with < without);
}

TEST_CASE("importance moves the choice towards what matters", "[ranges]") {
  const auto group = random_group(test::seed());
  std::vector<float> importance(group.size());
  for (std::size_t i = 0; i < group.size(); ++i) importance[i] = i % 8 == 0 ? 100.0f : 1.0f;
  const auto options = options_for(kU4B8, Ranges::mse);
  REQUIRE(distance_of(group, scale_of(options, group, importance), kU4B8, importance) <=
          distance_of(group, scale_of(options, group), kU4B8, importance) * (1 + 1e-5));
  REQUIRE(scale_of(options, group, std::vector<float>(group.size(), 1.0f)) == scale_of(options, group));
}

TEST_CASE("groups too small for the scale's dtype get the smallest scale", "[ranges]") {
  const DType dtype = GENERATE(DType::F16, DType::BF16);
  const Ranges ranges = GENERATE(Ranges::minmax, Ranges::mse);
  const float size = GENERATE(0.0f, 1e-42f, 1e-38f);
  const std::vector<float> group(128, size);
  const float scale = scale_of(options_for(kU4B8, ranges, dtype), group);
  REQUIRE(scale == smallest_scale(dtype));
  REQUIRE(storable(scale, dtype));
}

TEST_CASE("a scale past the dtype's largest is refused, and just below it is not", "[ranges]") {
  const Ranges ranges = GENERATE(Ranges::minmax, Ranges::mse);
  const bool signed_scales = GENERATE(false, true);
  const std::vector<float> fits(128, 65504.0f * 7.5f), too_large(128, 65536.0f * 7.5f);
  const auto f16 = options_for(kU4B8, ranges, DType::F16, signed_scales);
  REQUIRE(storable(scale_of(f16, fits), DType::F16));
  const auto error = test::error_of([&] { scale_of(f16, too_large); });
  for (const char* part : {"65536", "65504", "BF16"})
    test::require_error(error, ErrorKind::unsupported, part);
  REQUIRE(storable(scale_of(options_for(kU4B8, ranges, DType::BF16, signed_scales), too_large), DType::BF16));
}

TEST_CASE("find_ranges gives each group its own range", "[ranges]") {
  const MatrixF weight = test::random_matrix(256, 5, test::seed());
  const auto options = options_for(kU4B8, Ranges::mse);
  const MatrixF scales = find_ranges(weight, options).scales;
  REQUIRE((scales.rows() == 2 && scales.cols() == 5));
  for (Eigen::Index n = 0; n < 5; ++n)
    for (Eigen::Index group = 0; group < 2; ++group) {
      const std::vector<float> rows(weight.col(n).data() + group * 128,
                                    weight.col(n).data() + (group + 1) * 128);
      REQUIRE(scales(group, n) == scale_of(options, rows));
    }
}

/// Options for codes with a zero point.
QuantizerOptions asymmetric(ScalarType type, Ranges ranges) {
  QuantizerOptions options = options_for(type, ranges);
  options.scheme.zero_points = ZeroPoints::integer;
  return options;
}

double distance_of(std::span<const float> weights, GroupRange range, ScalarType type) {
  double sum = 0;
  for (const float w : weights) {
    const double code = std::clamp<double>(std::nearbyint(static_cast<double>(w) / range.scale) + range.zero,
                                           0, type.max_code());
    sum += std::pow(std::abs(w - (code - range.zero) * range.scale), 2.4);
  }
  return sum;
}

TEST_CASE("minmax with a zero point reaches both ends", "[ranges]") {
  const ScalarType type = GENERATE(kU4, kU8);
  const auto group = random_group(test::seed());
  const auto [least, most] = std::ranges::minmax(group);
  const GroupRange range = RangeSearch{asymmetric(type, Ranges::minmax)}(group);
  const auto max_code = static_cast<float>(type.max_code());
  REQUIRE(storable(range.scale, DType::F16));
  REQUIRE((range.zero == std::nearbyint(range.zero) && range.zero >= 1 && range.zero <= max_code));
  REQUIRE(range.scale * -range.zero <= least + 0.51f * range.scale);
  REQUIRE(range.scale * (max_code - range.zero) >= most - 0.51f * range.scale);
}

TEST_CASE("mse with a zero point is never worse than minmax, nor than symmetric codes where groups lean",
          "[ranges]") {
  double with = 0, without = 0;
  for (unsigned i = 0; i < 50; ++i) {
    auto group = random_group(test::seed() + i);
    for (float& w : group) w += 1.0f;
    const GroupRange mse = RangeSearch{asymmetric(kU4, Ranges::mse)}(group);
    const GroupRange minmax = RangeSearch{asymmetric(kU4, Ranges::minmax)}(group);
    CAPTURE(i, mse.scale, mse.zero, minmax.scale, minmax.zero);
    REQUIRE((mse.scale > 0 && mse.zero >= 1 && mse.zero <= 15));
    REQUIRE(distance_of(group, mse, kU4) <= distance_of(group, minmax, kU4) * (1 + 1e-5));
    with += distance_of(group, mse, kU4);
    without += distance_of(group, scale_of(options_for(kU4B8, Ranges::mse), group), kU4B8);
  }
  REQUIRE(with < without);
}

TEST_CASE("groups on one side of zero keep a zero point that every format can store", "[ranges]") {
  const Ranges ranges = GENERATE(Ranges::minmax, Ranges::mse);
  std::vector<float> group = random_group(test::seed());
  for (float& w : group) w = std::abs(w) + 0.1f;
  const GroupRange positive = RangeSearch{asymmetric(kU4, ranges)}(group);
  REQUIRE((positive.zero >= 1 && positive.zero <= 2));
  for (float& w : group) w = -w;
  const GroupRange negative = RangeSearch{asymmetric(kU4, ranges)}(group);
  REQUIRE((negative.zero >= 14 && negative.zero <= 15));
  const GroupRange nothing = RangeSearch{asymmetric(kU4, ranges)}(std::vector<float>(128, 0.0f));
  REQUIRE((nothing.scale == smallest_scale(DType::F16) && nothing.zero >= 1 && nothing.zero <= 15));
}

TEST_CASE("Hessian ranges weigh each input by its diagonal", "[ranges]") {
  const test::Layer layer = test::random_layer(128, 3, test::seed());
  QuantizerOptions options = options_for(kU4B8, Ranges::hessian);
  options.scheme.group_size = GroupSize{32};
  const Eigen::VectorXf diagonal = layer.hessian.diagonal();
  const QuantizedMatrix q = rtn(layer.view(), options).matrix;
  options.ranges = Ranges::mse;
  const QuantizedMatrix plain = rtn(layer.view(), options).matrix;
  double weighed = 0, alike = 0;
  for (Eigen::Index n = 0; n < 3; ++n)
    for (Eigen::Index group = 0; group < 4; ++group) {
      const std::span weights{layer.weight.col(n).data() + group * 32, 32};
      const std::span counts{diagonal.data() + group * 32, 32};
      weighed += distance_of(weights, q.scales(group, n), kU4B8, counts);
      alike += distance_of(weights, plain.scales(group, n), kU4B8, counts);
    }
  REQUIRE(weighed < alike);
}

}  // namespace
}  // namespace mpk
