#include <cmath>
#include <limits>
#include <vector>

#include "model/elementwise.hpp"
#include "model/norm.hpp"
#include "random_decoder.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

TEST_CASE("exponential is within two units in the last place", "[model][elementwise]") {
  double worst = 0;
  for (float x = -87.0f; x <= 88.0f; x += 0.00173f) {
    const double exact = std::exp(double{x});
    const auto rounded = static_cast<float>(exact);
    const double ulp =
        double{std::nextafter(rounded, std::numeric_limits<float>::infinity())} - double{rounded};
    worst = std::max(worst, std::abs(double{exponential(x)} - exact) / ulp);
  }
  CHECK(worst <= 2.0);
}

TEST_CASE("exponential at the ends", "[model][elementwise]") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(exponential(0.0f) == 1.0f);
  CHECK(exponential(-0.0f) == 1.0f);
  CHECK(exponential(-87.5f) == 0.0f);
  CHECK(exponential(-kInfinity) == 0.0f);
  CHECK(std::isfinite(exponential(kInfinity)));
  CHECK(exponential(kInfinity) > 1e38f);
  CHECK(std::isnan(exponential(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("silu keeps its limits", "[model][elementwise]") {
  CHECK(silu(0.0f) == 0.0f);
  CHECK(silu(100.0f) == 100.0f);
  CHECK(std::abs(silu(-100.0f)) < 1e-36f);
  CHECK(std::abs(silu(1.0f) - 0.7310585786f) < 1e-6f);
  CHECK(std::isnan(silu(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("sums and maxima do not depend on where the data lies", "[model][elementwise]") {
  const std::int64_t n = GENERATE(1, 7, 15, 16, 17, 31, 64, 1000);
  const MatrixF values = test::random_matrix(n, 1, test::seed());
  const auto sum_at = [&](std::size_t offset) {
    std::vector<float> buffer(static_cast<std::size_t>(n) + offset);
    std::copy(values.data(), values.data() + n, buffer.begin() + static_cast<std::ptrdiff_t>(offset));
    const float* x = buffer.data() + offset;
    return sum_in_lanes<float>(n, [x](std::int64_t i) { return x[i]; });
  };
  const float sum = sum_at(0);
  for (const std::size_t offset : {1u, 3u, 8u}) CHECK(sum_at(offset) == sum);
  // n terms in 16 lanes and four more additions: at most n / 16 + 4 roundings on the way of any term.
  const double exact = values.cast<double>().sum(), magnitude = values.cast<double>().cwiseAbs().sum();
  CHECK(std::abs(double{sum} - exact) <= (static_cast<double>(n) / 16 + 5) * 0x1p-24 * magnitude);
  CHECK(largest(values.data(), n) == values.maxCoeff());
}

TEST_CASE("RMS norm against its definition in double", "[model][norm]") {
  const std::int64_t n = GENERATE(1, 14, 64, 333);
  MatrixF x = test::random_matrix(n, 3, test::seed());
  x(0, 1) = 1e4f;  // an outlier
  const Eigen::VectorXf weight = test::random_matrix(n, 1, test::seed() + 1);
  MatrixF out;
  rms_norm(x, weight, 1e-5f, out);
  const MatrixD xd = x.cast<double>();
  for (Eigen::Index token = 0; token < 3; ++token) {
    const double scale =
        1.0 / std::sqrt(xd.col(token).squaredNorm() / static_cast<double>(n) + double{1e-5f});
    const Eigen::VectorXd exact = scale * xd.col(token).cwiseProduct(weight.cast<double>());
    // Sum, root, quotient and two products: each lane holds n / 16 squares, and the root halves their error.
    const double bound = (static_cast<double>(n) / 32 + 8) * 0x1p-24;
    CHECK(((out.col(token).cast<double>() - exact).array().abs() <= bound * exact.array().abs()).all());
  }
}
