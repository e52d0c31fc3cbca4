#include "quantizer/target.hpp"
#include "tests/quantizer/errors.hpp"
#include "tests/quantizer/layers.hpp"
#include "tests/support/catch.hpp"

namespace mpk {
namespace {

/// Inputs of a layer in the float model and, a little off, in the quantized one.
struct Inputs {
  MatrixF x, of_float;  // (K, M)
  MatrixF hessian() const { return gram(x); }
  InputError error() const { return {product(of_float - x), {}}; }
  /// x difference^T
  MatrixF product(const MatrixF& difference) const {
    return (x.cast<double>() * difference.cast<double>().transpose()).cast<float>();
  }
  static MatrixF gram(const MatrixF& m) { return test::gram(m).cast<float>(); }
};

Inputs random_inputs(Eigen::Index k, Eigen::Index tokens, unsigned seed) {
  const MatrixF of_float = test::random_matrix(k, k, seed) * test::random_matrix(k, tokens, seed + 1);
  return {of_float + 0.1f * test::random_matrix(k, k, seed + 2) * of_float, of_float};
}

double output_distance(const MatrixF& target, const MatrixF& weight, const Inputs& inputs) {
  return (target.transpose().cast<double>() * inputs.x.cast<double>() -
          weight.transpose().cast<double>() * inputs.of_float.cast<double>())
      .squaredNorm();
}

TEST_CASE("the whole correction is the least-squares layer, a part of it lies on the way", "[target]") {
  const Inputs inputs = random_inputs(150, 700, test::seed());
  const MatrixF weight = test::random_matrix(150, 70, test::seed() + 9);
  const auto at = [&](double strength) {
    return corrected_target(weight, inputs.hessian(), inputs.error(), strength, 1e-6);
  };
  REQUIRE(at(0) == weight);
  const MatrixF whole = at(1), partly = at(0.5);
  REQUIRE((partly - 0.5f * (weight + whole)).norm() < 1e-4f * weight.norm());
  // Inputs are an invertible map of the float ones: the error can be undone altogether.
  REQUIRE(output_distance(whole, weight, inputs) < 1e-4 * output_distance(weight, weight, inputs));
  const double step = output_distance(partly, weight, inputs) / output_distance(weight, weight, inputs);
  REQUIRE(test::near(step, 0.25, 0.02));
}

TEST_CASE("nothing to correct leaves the weight as it is", "[target]") {
  const MatrixF weight = test::random_matrix(64, 10, test::seed()), none = MatrixF::Zero(64, 64);
  const MatrixF hessian = Inputs::gram(test::random_matrix(64, 200, test::seed()));
  REQUIRE(corrected_target(weight, hessian, {}, 0.5, 0.01) == weight);
  REQUIRE(corrected_target(weight, hessian, {none, {}}, 0.5, 0.01) == weight);
  REQUIRE(corrected_target(weight, none, {none, none}, 0.5, 0.01) == weight);
}

TEST_CASE("an error of what the output is added to is made up for as well", "[target]") {
  const Inputs inputs = random_inputs(150, 700, test::seed());
  const MatrixF weight = test::random_matrix(150, 70, test::seed() + 9);
  // A residual stream that is off by a linear map of this layer's inputs.
  const MatrixF map = 0.2f * test::random_matrix(70, 150, test::seed() + 10);
  const MatrixF off = map * inputs.x;
  InputError error = inputs.error();
  error.residual = inputs.product(-off);
  // What the outputs, the error included, still differ by, as a part of what it was.
  const auto left = [&](const MatrixF& target, const MatrixF& wanted) {
    return (target.transpose() * inputs.x + off - wanted).norm() / off.norm();
  };
  const MatrixF both = corrected_target(weight, inputs.hessian(), error, 1, 1e-6);
  REQUIRE(left(both, weight.transpose() * inputs.of_float) < 5e-2);
  error = {{}, error.residual};
  const MatrixF alone = corrected_target(weight, inputs.hessian(), error, 1, 1e-6);
  REQUIRE(left(alone, weight.transpose() * inputs.x) < 1e-2);
}

TEST_CASE("inputs that are always zero, and fewer tokens than inputs", "[target]") {
  Inputs inputs = random_inputs(96, GENERATE(20, 300), test::seed());
  inputs.x.row(7).setZero();
  const MatrixF weight = test::random_matrix(96, 5, test::seed() + 9);
  const MatrixF target = corrected_target(weight, inputs.hessian(), inputs.error(), 1, 0.01);
  REQUIRE(target.allFinite());
  REQUIRE(target.row(7) == weight.row(7));
  REQUIRE(output_distance(target, weight, inputs) < output_distance(weight, weight, inputs));
}

TEST_CASE("corrected targets do not depend on the number of threads", "[target]") {
  const Inputs inputs = random_inputs(200, 300, test::seed());
  const MatrixF weight = test::random_matrix(200, 130, test::seed());
  const auto run = [&] { return corrected_target(weight, inputs.hessian(), inputs.error(), 0.5, 0.01); };
  REQUIRE(test::with_threads(1, run) == test::with_threads(2, run));
}

}  // namespace
}  // namespace mpk
