#include "quantizer/descent.hpp"
#include "quantizer/rounding.hpp"
#include "tests/quantizer/layers.hpp"
#include "tests/support/catch.hpp"

namespace mpk {
namespace {

double damped_loss(const QuantizedMatrix& q, const test::Layer& layer, double damping) {
  const MatrixF error = layer.weight - dequantize(q);
  return test::energy(error, layer.hessian) + damping * error.cast<double>().squaredNorm();
}

TEST_CASE("descent never raises the loss, whatever it starts from", "[descent]") {
  const std::int64_t group = GENERATE(0, 6, 32, 128, 192);
  QuantizerOptions options;
  options.scheme.type = GENERATE(kU4B8, kU8B128, kU4);
  if (options.scheme.type == kU4) options.scheme.zero_points = ZeroPoints::integer;
  options.scheme.scale_dtype = GENERATE(DType::F16, DType::BF16);
  options.signed_scales = GENERATE(false, true);
  if (group) options.scheme.group_size = GroupSize{group};
  const test::Layer layer = test::random_layer(384, 35, test::seed());
  const double damping = 0.01 * layer.hessian.diagonal().cast<double>().mean();
  CAPTURE(group, options.scheme.type.bits, options.signed_scales);

  QuantizedMatrix q = rtn({layer.weight, nullptr}, options).matrix;
  double loss = damped_loss(q, layer, damping);
  for (int sweep = 0; sweep < 3; ++sweep) {
    descend(q, layer.weight, layer.hessian, damping, 1);
    const double now = damped_loss(q, layer, damping);
    CAPTURE(sweep, loss, now);
    REQUIRE(now <= loss * (1 + 1e-4));  // the choices are made in float32
    if (sweep == 0) REQUIRE(now < loss);
    loss = now;
  }
  REQUIRE((options.signed_scales || (q.scales.array() > 0).all()));
  REQUIRE(q.codes.maxCoeff() <= options.scheme.type.max_code());
  REQUIRE(q.scales.unaryExpr([&](float s) { return representable_scale(s, options.scheme.scale_dtype); }) ==
          q.scales);
}

TEST_CASE("a scale that is far off is refitted, a group's and a column's", "[descent]") {
  const std::int64_t group = GENERATE(0, 32);
  QuantizerOptions options;
  options.scheme.type = GENERATE(kU4B8, kU8B128);
  if (group) options.scheme.group_size = GroupSize{group};
  const test::Layer layer = test::random_layer(256, 20, test::seed());
  QuantizedMatrix q = gptq(layer.view(), options).matrix;
  q.scales = (q.scales * 1.25f).unaryExpr([](float s) { return representable_scale(s, DType::F16); });
  const double spoiled = damped_loss(q, layer, 0);
  const MatrixF scales = q.scales;
  descend(q, layer.weight, layer.hessian, 0, 2);
  CAPTURE(group, options.scheme.type.bits);
  REQUIRE(damped_loss(q, layer, 0) < 0.5 * spoiled);
  REQUIRE(q.scales.sum() < 0.9f * scales.sum());
}

TEST_CASE("no single code of a converged output can be bettered", "[descent]") {
  const test::Layer layer = test::random_layer(96, 4, test::seed());
  QuantizerOptions options;
  options.scheme.group_size = GroupSize{32};
  QuantizedMatrix q = gptq(layer.view(), options).matrix;
  descend(q, layer.weight, layer.hessian, 0, 200);
  const MatrixD gradient =
      layer.hessian.cast<double>() * (dequantize(q) - layer.weight).cast<double>();  // H e
  for (Eigen::Index n = 0; n < 4; ++n)
    for (Eigen::Index k = 0; k < 96; ++k)
      for (const int step : {-1, 1}) {
        const int code = q.codes(k, n) + step;
        if (code < 0 || code > kU4B8.max_code()) continue;
        const double move = step * static_cast<double>(q.scales(k / 32, n));
        const double own = move * move * layer.hessian(k, k);
        CAPTURE(k, n, step);
        REQUIRE(2 * move * gradient(k, n) + own >= -1e-3 * own);
      }
}

TEST_CASE("after gptq, descent gains, on fewer and more tokens than inputs", "[descent]") {
  const test::Layer layer = test::random_layer(320, 30, test::seed(), GENERATE(100, 2000));
  QuantizerOptions options;
  options.scheme.group_size = GroupSize{64};
  options.act_order = GENERATE(ActOrder::none, ActOrder::fixed_groups);
  const QuantizedLinear before = gptq(layer.view(), options);
  options.descent_sweeps = 4;
  const auto run = [&] { return gptq(layer.view(), options); };
  const QuantizedLinear after = test::with_threads(1, run);
  CAPTURE(before.relative_loss, after.relative_loss);
  REQUIRE(after.relative_loss < before.relative_loss);
  REQUIRE(test::near(after.relative_loss, test::relative_loss(after.matrix, layer), 1e-3));
  REQUIRE(test::same_bits(test::with_threads(2, run), after));
}

}  // namespace
}  // namespace mpk
