#include <algorithm>
#include <numeric>
#include <random>

#include "quantizer/rounding.hpp"
#include "tests/quantizer/layers.hpp"
#include "tests/support/catch.hpp"

namespace mpk {
namespace {

QuantizerOptions with_order(ActOrder act_order, std::optional<GroupSize> group_size = GroupSize{32}) {
  QuantizerOptions options;
  options.scheme.group_size = group_size;
  options.act_order = act_order;
  return options;
}

TEST_CASE("gptq: codes in range, scales storable, loss as defined", "[gptq]") {
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const DType dtype = GENERATE(DType::F16, DType::BF16);
  // 32 .. 128: groups within a block; 192, 384: larger than one; 6: many that do not fill it
  const std::int64_t group = GENERATE(0, 6, 32, 64, 128, 192, 384);
  QuantizerOptions options = with_order(GENERATE(ActOrder::none, ActOrder::fixed_groups));
  options.scheme = {type, group ? std::optional{GroupSize{group}} : std::nullopt, dtype};
  const test::Layer layer = test::random_layer(384, 37, test::seed());  // 37: the last lanes are padding
  CAPTURE(type.bits, group, options.act_order == ActOrder::none);

  const QuantizedLinear result = gptq(layer.view(), options);
  const QuantizedMatrix& q = result.matrix;
  REQUIRE((q.codes.rows() == 384 && q.codes.cols() == 37));
  REQUIRE((q.scales.rows() == options.scheme.groups(K{384}).value && q.scales.cols() == 37));
  REQUIRE(q.codes.maxCoeff() <= type.max_code());
  REQUIRE(q.scales.unaryExpr([&](float s) { return representable_scale(s, dtype); }) == q.scales);
  REQUIRE((q.scales.array() > 0).all());
  REQUIRE(result.damp == options.damp);
  // The loss comes from ||D R||^2 in float32: K u of the damped energy, of which it is the difference to D^2.
  REQUIRE(test::near(result.relative_loss, test::relative_loss(q, layer), 1e-3));
}

TEST_CASE("gptq loses less than rounding with the same ranges", "[gptq]") {
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const Ranges ranges = GENERATE(Ranges::minmax, Ranges::mse);
  const Eigen::Index tokens = GENERATE(40, 1000);  // fewer and more than inputs
  QuantizerOptions options = with_order(ActOrder::fixed_groups);
  options.scheme.type = type;
  options.ranges = ranges;
  const test::Layer layer = test::random_layer(320, 24, test::seed(), tokens);
  const QuantizedLinear solved = gptq(layer.view(), options), rounded = rtn(layer.view(), options);
  CAPTURE(type.bits, tokens, solved.relative_loss, rounded.relative_loss);
  REQUIRE(solved.matrix.scales == rounded.matrix.scales);  // chosen beforehand, from the same weights
  REQUIRE(test::relative_loss(solved.matrix, layer) < test::relative_loss(rounded.matrix, layer));
  options.act_order = ActOrder::none;
  REQUIRE(gptq(layer.view(), options).relative_loss < rounded.relative_loss);
}

TEST_CASE("zero points: gptq loses less than rounding, and less than symmetric codes where weights lean",
          "[gptq]") {
  QuantizerOptions options = with_order(GENERATE(ActOrder::none, ActOrder::fixed_groups));
  options.scheme.type = GENERATE(kU4, kU8);
  options.scheme.zero_points = ZeroPoints::integer;
  test::Layer layer = test::random_layer(256, 33, test::seed());
  layer.weight.array() += 0.05f;
  const QuantizedLinear solved = gptq(layer.view(), options), rounded = rtn(layer.view(), options);
  const QuantizedMatrix& q = solved.matrix;
  REQUIRE((q.zero_points.rows() == 8 && q.zero_points.cols() == 33));
  REQUIRE((q.zero_points.minCoeff() >= 1 && q.zero_points.maxCoeff() <= options.scheme.type.max_code()));
  REQUIRE(q.codes.maxCoeff() <= options.scheme.type.max_code());
  REQUIRE(test::near(solved.relative_loss, test::relative_loss(q, layer), 1e-3));
  REQUIRE(solved.relative_loss < rounded.relative_loss);
  options.scheme.type = symmetric_integer(options.scheme.type.bits);
  options.scheme.zero_points = ZeroPoints::implied;
  REQUIRE(solved.relative_loss < gptq(layer.view(), options).relative_loss);
}

TEST_CASE("without correlation gptq is rounding", "[gptq]") {
  test::Layer layer = test::random_layer(256, 10, test::seed());
  layer.hessian = MatrixF(layer.hessian.diagonal().asDiagonal());
  const QuantizerOptions options = with_order(GENERATE(ActOrder::none, ActOrder::fixed_groups));
  const QuantizedMatrix solved = gptq(layer.view(), options).matrix,
                        rounded = rtn(layer.view(), options).matrix;
  REQUIRE(solved.codes == rounded.codes);
  REQUIRE(solved.scales == rounded.scales);
}

TEST_CASE("with act-order and one scale per column, the order of the inputs does not matter", "[gptq]") {
  const test::Layer layer = test::random_layer(200, 12, test::seed());
  std::vector<int> perm(200);
  std::iota(perm.begin(), perm.end(), 0);
  std::shuffle(perm.begin(), perm.end(), std::mt19937{test::seed()});
  const Eigen::PermutationMatrix<Eigen::Dynamic> p{Eigen::Map<const Eigen::VectorXi>(perm.data(), 200)};
  const test::Layer moved{p * layer.weight, p * layer.hessian * p.transpose()};
  QuantizerOptions options = with_order(ActOrder::fixed_groups, std::nullopt);
  options.ranges = Ranges::minmax;  // whose scales do not depend on the order of a sum
  const QuantizedMatrix straight = gptq(layer.view(), options).matrix,
                        shuffled = gptq(moved.view(), options).matrix;
  REQUIRE(shuffled.scales == straight.scales);
  for (Eigen::Index k = 0; k < 200; ++k)
    REQUIRE(shuffled.codes.row(perm[static_cast<std::size_t>(k)]) == straight.codes.row(k));
}

TEST_CASE("inputs of equal weight in the Hessian are solved in storage order", "[gptq]") {
  test::Layer layer = test::random_layer(160, 8, test::seed());
  const Eigen::VectorXf norm = layer.hessian.diagonal().cwiseSqrt().cwiseInverse();
  layer.hessian = MatrixF(norm.asDiagonal() * layer.hessian * norm.asDiagonal());
  layer.hessian.diagonal().setOnes();
  // One group: then both orders also choose their scale from the same weights.
  REQUIRE(gptq(layer.view(), with_order(ActOrder::fixed_groups, std::nullopt)).matrix.codes ==
          gptq(layer.view(), with_order(ActOrder::none, std::nullopt)).matrix.codes);
}

TEST_CASE("gptq does not depend on the number of threads", "[gptq]") {
  const test::Layer layer = test::random_layer(640, 150, test::seed());
  const QuantizerOptions options =
      with_order(GENERATE(ActOrder::none, ActOrder::fixed_groups), GENERATE(GroupSize{64}, GroupSize{320}));
  const auto run = [&] { return gptq(layer.view(), options); };
  const QuantizedLinear one = test::with_threads(1, run);
  REQUIRE(test::same_bits(one, test::with_threads(2, run)));
  REQUIRE(test::same_bits(one, test::with_threads(3, run)));
}

TEST_CASE("an output is quantized the same whatever stands beside it", "[gptq]") {
  const test::Layer layer = test::random_layer(100, 1, test::seed());
  const test::Layer many{layer.weight.replicate(1, 40), layer.hessian};  // two chunks, all short blocks
  const QuantizerOptions options = with_order(ActOrder::none, GroupSize{50});
  const QuantizedMatrix alone = gptq(layer.view(), options).matrix,
                        beside = gptq(many.view(), options).matrix;
  for (Eigen::Index n = 0; n < 40; ++n) REQUIRE(beside.codes.col(n) == alone.codes.col(0));
}

TEST_CASE("a singular Hessian raises the damping and says so", "[gptq]") {
  test::Layer layer = test::random_layer(96, 6, test::seed());
  layer.hessian.setConstant(4.0f);  // every input is the same
  QuantizerOptions options = with_order(GENERATE(ActOrder::none, ActOrder::fixed_groups));
  options.damp = 0;
  const QuantizedLinear result = gptq(layer.view(), options);
  REQUIRE(result.damp > 0);
  REQUIRE(result.damp <= 1);
  REQUIRE(std::abs(result.relative_loss - test::relative_loss(result.matrix, layer)) <= 1e-4);
}

TEST_CASE("inputs no token reaches become zero and disturb nothing", "[gptq]") {
  test::Layer layer = test::random_layer(256, 11, test::seed());
  for (const Eigen::Index dead : {0, 31, 32, 200, 255}) {
    layer.hessian.row(dead).setZero();
    layer.hessian.col(dead).setZero();
    layer.weight.row(dead).setConstant(1e3f);  // must not stretch its group's range either
  }
  const QuantizedLinear result =
      gptq(layer.view(), with_order(GENERATE(ActOrder::none, ActOrder::fixed_groups)));
  for (const Eigen::Index dead : {0, 31, 32, 200, 255})
    REQUIRE((result.matrix.codes.row(dead).array() == kU4B8.bias).all());
  REQUIRE(result.matrix.scales.maxCoeff() < 1);
  REQUIRE(test::near(result.relative_loss, test::relative_loss(result.matrix, layer), 1e-3));
  REQUIRE(result.relative_loss < 0.05);
}

TEST_CASE("a layer no token reaches is rounded, not erased", "[gptq]") {
  test::Layer layer = test::random_layer(64, 5, test::seed());
  layer.hessian.setZero();
  const QuantizerOptions options = with_order(ActOrder::fixed_groups);
  REQUIRE(test::same_bits(gptq(layer.view(), options), rtn({layer.weight, nullptr}, options)));
}

TEST_CASE("zero columns, zero groups and zero layers stay zero", "[gptq]") {
  const ActOrder act_order = GENERATE(ActOrder::none, ActOrder::fixed_groups);
  test::Layer layer = test::random_layer(128, 7, test::seed());
  layer.weight.col(3).setZero();
  const QuantizedLinear result = gptq(layer.view(), with_order(act_order));
  REQUIRE((result.matrix.codes.col(3).array() == kU4B8.bias).all());
  REQUIRE((result.matrix.scales.col(3).array() == smallest_scale(DType::F16)).all());
  layer.weight.setZero();
  const QuantizedLinear nothing = gptq(layer.view(), with_order(act_order));
  REQUIRE((nothing.matrix.codes.array() == kU4B8.bias).all());
  REQUIRE(nothing.relative_loss == 0);
}

TEST_CASE("signed scales do not lose more", "[gptq]") {
  const test::Layer layer = test::random_layer(512, 64, test::seed());
  QuantizerOptions options = with_order(ActOrder::fixed_groups, GroupSize{128});
  const QuantizedLinear plain = gptq(layer.view(), options);
  options.signed_scales = true;
  const QuantizedLinear either = gptq(layer.view(), options);
  REQUIRE((either.matrix.scales.array() < 0).any());
  REQUIRE(either.relative_loss < plain.relative_loss);
  REQUIRE(test::near(either.relative_loss, test::relative_loss(either.matrix, layer), 1e-3));
}

}  // namespace
}  // namespace mpk
