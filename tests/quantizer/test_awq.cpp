#include <numeric>

#include "quantizer/awq.hpp"
#include "tests/quantizer/layers.hpp"
#include "tests/support/catch.hpp"

namespace mpk {
namespace {

using Eigen::Index;

std::vector<Index> each_its_own(Index k) {
  std::vector<Index> channels(static_cast<std::size_t>(k));
  std::iota(channels.begin(), channels.end(), Index{0});
  return channels;
}

/// Output energy lost by rounding diag(s) W and undoing s.
double lost(const test::Layer& layer, const Eigen::VectorXf& scales, const QuantizerOptions& options) {
  const MatrixF scaled = scales.asDiagonal() * layer.weight;
  const MatrixF back =
      scales.cwiseInverse().asDiagonal() * dequantize(rtn({scaled, nullptr}, options).matrix);
  return test::energy(layer.weight - back, layer.hessian);
}

TEST_CASE("AWQ's scales lose less where some inputs are much larger", "[awq]") {
  test::Layer layer = test::random_layer(256, 40, test::seed());
  QuantizerOptions options;
  options.scheme.group_size = GroupSize{64};
  options.ranges = Ranges::minmax;
  const std::vector<AwqLayer> layers{{&layer.weight, options.scheme}};
  const Eigen::VectorXf scales = awq_scales(layers, layer.hessian, each_its_own(256), options);
  REQUIRE(scales.size() == 256);
  REQUIRE((scales.array() > 0).all());
  REQUIRE(lost(layer, scales, options) < 0.9 * lost(layer, Eigen::VectorXf::Ones(256), options));
  REQUIRE(scales(5) > scales(6));  // random_layer makes every 16th input 20 times larger
}

TEST_CASE("inputs of one channel get one scale, dead and unused ones keep theirs", "[awq]") {
  test::Layer layer = test::random_layer(128, 20, test::seed());
  layer.hessian.row(9).setZero();
  layer.hessian.col(9).setZero();
  QuantizerOptions options;
  options.scheme.group_size = GroupSize{32};
  const std::vector<AwqLayer> layers{{&layer.weight, options.scheme}};
  const Eigen::VectorXf scales = awq_scales(layers, layer.hessian, each_its_own(128), options);
  REQUIRE(scales.allFinite());
  REQUIRE(scales(9) == 1);
  std::vector<Index> halves(128);
  for (std::size_t k = 0; k < 128; ++k) halves[k] = static_cast<Index>(k % 64);
  REQUIRE(awq_scales(layers, layer.hessian, halves, options).size() == 64);
  REQUIRE(awq_scales(layers, MatrixF::Zero(128, 128), each_its_own(128), options) ==
          Eigen::VectorXf::Ones(128));
}

TEST_CASE("layers that share inputs are weighed together", "[awq]") {
  const test::Layer a = test::random_layer(128, 20, test::seed());
  const MatrixF other = 0.1f * test::random_matrix(128, 30, test::seed() + 50);
  QuantizerOptions options;
  options.scheme.group_size = GroupSize{32};
  options.ranges = Ranges::minmax;
  const std::vector<AwqLayer> both{{&a.weight, options.scheme}, {&other, options.scheme}};
  const auto run = [&] { return awq_scales(both, a.hessian, each_its_own(128), options); };
  const Eigen::VectorXf scales = test::with_threads(1, run);
  const test::Layer b{other, a.hessian};
  const Eigen::VectorXf ones = Eigen::VectorXf::Ones(128);
  REQUIRE(lost(a, scales, options) + lost(b, scales, options) <=
          lost(a, ones, options) + lost(b, ones, options));
  REQUIRE(test::with_threads(2, run) == scales);
}

}  // namespace
}  // namespace mpk
