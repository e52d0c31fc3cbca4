// The nearest-plane solver against GPTQ as published: double precision, the inverse Hessian, one column at a
// time, every later weight corrected at once. Different codes are accepted only where the textbook itself
// stands so close to the middle between two levels that float32 cannot be held to its side.

#include <numeric>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

#include "quantizer/rounding.hpp"
#include "tests/quantizer/layers.hpp"
#include "tests/support/catch.hpp"

namespace mpk {
namespace {

using Eigen::Index;

struct Comparison {
  int outputs = 0, equal = 0;
  double worst_tie = 0;    // largest distance from a middle at which a first difference was seen, in levels
  double worst_scale = 0;  // largest relative difference of a scale to the textbook's max|w|
};

std::vector<Index> falling_diagonal(const MatrixF& hessian) {
  std::vector<Index> order(static_cast<std::size_t>(hessian.rows()));
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](Index a, Index b) { return hessian(a, a) > hessian(b, b); });
  return order;
}

/// Runs the textbook with the scales of `q` and compares codes output by output. Scales found on the way are
/// compared with what the textbook would choose at that moment.
Comparison compare_with_textbook(const QuantizedMatrix& q, const test::Layer& layer,
                                 const QuantizerOptions& options) {
  const Index size = layer.weight.rows();
  const ScalarType type = q.scheme.type;
  const Index rows = q.scheme.rows_per_group(K{size});
  std::vector<Index> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), Index{0});
  if (options.act_order == ActOrder::fixed_groups) order = falling_diagonal(layer.hessian);

  MatrixD h(size, size);
  for (Index i = 0; i < size; ++i)
    for (Index j = 0; j < size; ++j)
      h(i, j) = layer.hessian(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(j)]);
  h.diagonal().array() += options.damp * layer.hessian.cast<double>().diagonal().mean();
  const MatrixD inverse = h.llt().solve(MatrixD::Identity(size, size));
  const MatrixD u = inverse.llt().matrixU();  // H^-1 = U^T U

  Comparison result;
  for (Index n = 0; n < layer.weight.cols(); ++n, ++result.outputs) {
    Eigen::VectorXd w(size);
    for (Index k = 0; k < size; ++k) w(k) = layer.weight(order[static_cast<std::size_t>(k)], n);
    bool differs = false;
    for (Index k = 0; k < size && !differs; ++k) {
      const Index source = order[static_cast<std::size_t>(k)];
      const double scale = q.scales(source / rows, n);
      if (options.act_order == ActOrder::none && k % rows == 0) {
        const double expected = w.segment(k, rows).cwiseAbs().maxCoeff() / (type.max_code() / 2.0);
        result.worst_scale = std::max(result.worst_scale, std::abs(scale / expected - 1));
      }
      const double target = w(k) / scale;
      const double level =
          std::clamp<double>(std::nearbyint(target), -type.bias, type.max_code() - type.bias);
      const double got = static_cast<double>(q.codes(source, n)) - type.bias;
      if (got != level) {
        differs = true;
        result.worst_tie = std::max(result.worst_tie, std::abs(target - (got + level) / 2));
      }
      const double error = (w(k) - level * scale) / u(k, k);
      w.tail(size - k) -= error * u.row(k).tail(size - k).transpose();
    }
    if (!differs) ++result.equal;
  }
  return result;
}

TEST_CASE("nearest planes give GPTQ's codes", "[gptq]") {
  QuantizerOptions options;
  options.act_order = GENERATE(ActOrder::none, ActOrder::fixed_groups);
  options.ranges = Ranges::minmax;
  const std::int64_t group = GENERATE(0, 32, 96, 144);
  options.scheme.type = GENERATE(kU4B8, kU8B128);
  if (group) options.scheme.group_size = GroupSize{group};
  const test::Layer layer = test::random_layer(288, 40, test::seed());  // more than two blocks

  const QuantizedLinear solved = gptq(layer.view(), options);
  const Comparison found = compare_with_textbook(solved.matrix, layer, options);

  // Forward error of a triangular system in float32: K u cond(R), relative to targets of up to 2^(bits-1)
  // levels.
  const Eigen::SelfAdjointEigenSolver<MatrixD> eigen{layer.hessian.cast<double>(), Eigen::EigenvaluesOnly};
  const double damping = options.damp * layer.hessian.cast<double>().diagonal().mean();
  const double condition = std::sqrt((eigen.eigenvalues().maxCoeff() + damping) /
                                     (std::max(eigen.eigenvalues().minCoeff(), 0.0) + damping));
  const double tie = 288 * test::kUnitRoundoff * condition * options.scheme.type.bias;
  CAPTURE(group, options.scheme.type.bits, options.act_order == ActOrder::none, found.worst_tie, tie,
          condition);
  REQUIRE(found.worst_tie <= tie);
  REQUIRE(found.worst_scale <=
          0x1p-10);  // half a unit in the last place of F16, and as much again for float32
  // One output has 288 chances of a tie; the few that meet one do not tell on the rest.
  REQUIRE(found.equal >= found.outputs * (options.scheme.type.bits == 4 ? 9 : 5) / 10);
}

}  // namespace
}  // namespace mpk
