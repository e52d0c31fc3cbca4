#include "quantizer/rounding.hpp"
#include "tests/quantizer/layers.hpp"
#include "tests/support/catch.hpp"

namespace mpk {
namespace {

TEST_CASE("rtn errs by half a step at most where it does not clip", "[rtn]") {
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const auto group_size =
      GENERATE(std::optional<GroupSize>{}, std::optional{GroupSize{32}}, std::optional{GroupSize{128}});
  QuantizerOptions options;
  options.scheme = {type, group_size, GENERATE(DType::F16, DType::BF16)};
  options.ranges = GENERATE(Ranges::minmax, Ranges::mse);
  options.signed_scales = GENERATE(false, true);
  const MatrixF weight = test::random_layer(256, 9, test::seed()).weight;

  const QuantizedMatrix q = rtn({weight, nullptr}, options).matrix;
  REQUIRE(q.scheme == options.scheme);
  REQUIRE(q.scales.rows() == options.scheme.groups(K{256}).value);
  const MatrixF back = dequantize(q);
  const std::int64_t rows = options.scheme.rows_per_group(K{256});
  for (Eigen::Index n = 0; n < 9; ++n)
    for (Eigen::Index k = 0; k < 256; ++k) {
      CAPTURE(k, n, weight(k, n), back(k, n), q.scales(k / rows, n), int{q.codes(k, n)});
      REQUIRE(q.codes(k, n) <= type.max_code());
      const double step = std::abs(q.scales(k / rows, n)), error = std::abs(weight(k, n) - back(k, n));
      const bool clipped = q.codes(k, n) == 0 || q.codes(k, n) == type.max_code();
      if (!clipped) REQUIRE(error <= step / 2 * (1 + 1e-5));
    }
}

TEST_CASE("rounding goes half to even", "[rtn]") {
  const Levels levels{kU4B8, 8};
  REQUIRE(levels.nearest(0.5f) == 0);
  REQUIRE(levels.nearest(1.5f) == 2);
  REQUIRE(levels.nearest(-2.5f) == -2);
  REQUIRE(levels.nearest(7.5f) == 7);
  REQUIRE(levels.nearest(-1e30f) == -8);
  REQUIRE(levels.code(-8) == 0);
  REQUIRE(levels.code(7) == 15);
}

TEST_CASE("weights that are codes times a scale come back exactly", "[rtn]") {
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  QuantizerOptions options;
  options.scheme = {type, GroupSize{64}, DType::F16};
  options.ranges = Ranges::minmax;
  MatrixF weight = MatrixF::Zero(64, 3);
  // The scale is max |w| / (max_code / 2), so w is put on multiples of it; max_code / 2 itself is half a
  // level.
  const float scale = 0x1p-6f;
  for (Eigen::Index k = 0; k < 64; ++k) weight.row(k).setConstant(static_cast<float>(k % 15 - 7) * scale);
  weight.row(0).setConstant(-static_cast<float>(type.max_code()) / 2 * scale);
  const QuantizedMatrix q = rtn({weight, nullptr}, options).matrix;
  REQUIRE((q.scales.array() == scale).all());
  REQUIRE(dequantize(q).bottomRows(63) == weight.bottomRows(63));
}

TEST_CASE("rtn reports its loss against the Hessian, or against 1 without one", "[rtn]") {
  const test::Layer layer = test::random_layer(600, 20, test::seed());
  QuantizerOptions options;
  options.scheme.group_size = GroupSize{100};
  const QuantizedLinear with = rtn(layer.view(), options), without = rtn({layer.weight, nullptr}, options);
  REQUIRE(with.matrix.codes == without.matrix.codes);
  REQUIRE(with.damp == 0);
  REQUIRE(test::near(with.relative_loss, test::relative_loss(with.matrix, layer), 1e-4));
  const double error = (layer.weight - dequantize(without.matrix)).cast<double>().squaredNorm();
  REQUIRE(test::near(without.relative_loss, error / layer.weight.cast<double>().squaredNorm(), 1e-6));
}

TEST_CASE("rtn does not depend on the number of threads", "[rtn]") {
  const test::Layer layer = test::random_layer(512, 33, test::seed());
  const auto run = [&] { return rtn(layer.view(), {.scheme = {.group_size = GroupSize{32}}}); };
  REQUIRE(test::same_bits(test::with_threads(1, run), test::with_threads(2, run)));
}

}  // namespace
}  // namespace mpk
