// The dense algebra against plain double loops; bounds are the textbook's, gamma_n = n u of each entry's
// magnitudes.

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "packer/format/error.hpp"
#include "quantizer/linalg/blas_kernels.hpp"
#include "quantizer/linalg/cholesky.hpp"
#include "quantizer/linalg/gemm.hpp"
#include "quantizer/linalg/parallel.hpp"
#include "tests/quantizer/layers.hpp"
#include "tests/support/catch.hpp"

namespace mpk {
namespace {

using test::kUnitRoundoff;

struct Shape3 {
  Eigen::Index m, n, k;
};

/// The largest |got - a b| in units of its bound (n + 2) u |a| |b|, entry by entry.
double worst_of_bound(const MatrixF& got, const MatrixD& a, const MatrixD& b) {
  double worst = 0;
  for (Eigen::Index col = 0; col < b.cols(); ++col)
    for (Eigen::Index row = 0; row < a.rows(); ++row) {
      double sum = 0, magnitude = 0;
      for (Eigen::Index k = 0; k < a.cols(); ++k) {
        sum += a(row, k) * b(k, col);
        magnitude += std::abs(a(row, k) * b(k, col));
      }
      const double bound = (static_cast<double>(a.cols()) + 2) * kUnitRoundoff * magnitude;
      worst = std::max(worst, std::abs(got(row, col) - sum) / std::max(bound, 1e-300));
    }
  return worst;
}

TEST_CASE("gemm is the product, in every transposition, over and across tiles", "[linalg]") {
  const Shape3 s = GENERATE(Shape3{1, 1, 1}, Shape3{7, 1, 511}, Shape3{1, 513, 7}, Shape3{512, 511, 33},
                            Shape3{513, 1030, 7}, Shape3{1030, 64, 129}, Shape3{65, 7, 1030});
  const Op op_a = GENERATE(Op::none, Op::transpose), op_b = GENERATE(Op::none, Op::transpose);
  CAPTURE(s.m, s.n, s.k, op_a == Op::none, op_b == Op::none);
  const MatrixF a = test::random_matrix(s.m, s.k, test::seed()), b = test::random_matrix(s.k, s.n, 1);
  const MatrixF a_stored = op_a == Op::none ? a : MatrixF(a.transpose());
  const MatrixF b_stored = op_b == Op::none ? b : MatrixF(b.transpose());
  MatrixF c = MatrixF::Constant(s.m, s.n, NAN);  // beta = 0 must not read it
  gemm(op_a, op_b, 1.0f, a_stored, b_stored, 0.0f, c);
  REQUIRE(worst_of_bound(c, a.cast<double>(), b.cast<double>()) <= 1.0);

  MatrixF twice = c;  // c + (-1) a b = 0 up to what both may err
  gemm(op_a, op_b, -1.0f, a_stored, b_stored, 1.0f, twice);
  REQUIRE(twice.cwiseAbs().maxCoeff() <=
          4 * (static_cast<double>(s.k) + 2) * kUnitRoundoff * (a.cwiseAbs() * b.cwiseAbs()).maxCoeff());
}

TEST_CASE("gemm works on blocks of larger matrices and leaves the rest alone", "[linalg]") {
  const MatrixF a = test::random_matrix(600, 40, test::seed()), b = test::random_matrix(50, 90, 2);
  MatrixF c = MatrixF::Zero(620, 100);
  gemm(Op::none, Op::none, 1.0f, a.middleCols(3, 30), b.block(7, 5, 30, 80), 0.0f, c.block(11, 9, 600, 80));
  REQUIRE(worst_of_bound(c.block(11, 9, 600, 80), a.middleCols(3, 30).cast<double>(),
                         b.block(7, 5, 30, 80).cast<double>()) <= 1.0);
  c.block(11, 9, 600, 80).setZero();
  REQUIRE(c.isZero(0));
}

TEST_CASE("add_gram adds x x^T to both triangles", "[linalg]") {
  const Eigen::Index k = GENERATE(1, 7, 511, 512, 513, 1030);
  const MatrixF x = test::random_matrix(k, 19, test::seed());
  MatrixF h = MatrixF::Zero(k, k);
  add_gram(x, h);
  CAPTURE(k);
  REQUIRE(h == h.transpose());
  REQUIRE(worst_of_bound(h, x.cast<double>(), x.transpose().cast<double>()) <= 1.0);
  const MatrixF once = h;
  add_gram(x, h);
  REQUIRE((h - 2 * once).cwiseAbs().maxCoeff() <= 64 * kUnitRoundoff * once.cwiseAbs().maxCoeff());
}

TEST_CASE("factor_upper: R is upper triangular and R R^T is H", "[linalg]") {
  const Eigen::Index k = GENERATE(1, 7, 127, 128, 129, 511, 513, 1030);
  CAPTURE(k);
  MatrixF h = test::gram(test::random_matrix(k, k + 40, test::seed())).cast<float>();
  h.diagonal() *= 1.01f;
  MatrixF r = h;
  r.triangularView<Eigen::StrictlyLower>().setConstant(NAN);  // which must not be read
  REQUIRE(factor_upper(r));
  REQUIRE(MatrixF(r.triangularView<Eigen::StrictlyLower>()).isZero(0));
  // Backward error of a Cholesky factor: gamma_{n+1} |R| |R^T|.
  const MatrixD product = r.cast<double>() * r.cast<double>().transpose();
  const MatrixD bound = (static_cast<double>(k) + 2) * kUnitRoundoff *
                        (r.cwiseAbs().cast<double>() * r.cwiseAbs().cast<double>().transpose());
  REQUIRE(((product - h.cast<double>()).cwiseAbs().array() <= bound.array()).all());
}

TEST_CASE("factor_upper says when there is no factor", "[linalg]") {
  const Eigen::Index k = GENERATE(1, 130, 300);
  MatrixF h = MatrixF::Identity(k, k);
  const Eigen::Index bad = GENERATE_COPY(Eigen::Index{0}, k - 1);
  h(bad, bad) = GENERATE(0.0f, -1.0f);
  REQUIRE_FALSE(factor_upper(h));
}

TEST_CASE("linear algebra does not depend on the number of threads", "[linalg]") {
  const MatrixF x = test::random_matrix(700, 900, test::seed());
  const auto run = [&] {
    MatrixF h = MatrixF::Zero(700, 700), product(700, 900);
    add_gram(x, h);
    gemm(Op::none, Op::none, 1.0f, h, x, 0.0f, product);
    if (!factor_upper(h)) throw std::runtime_error("not positive definite");
    return std::pair{h, product};
  };
  const auto one = test::with_threads(1, run);
  REQUIRE(test::with_threads(2, run) == one);
  REQUIRE(test::with_threads(3, run) == one);
}

TEST_CASE("only kernels picked for an unknown CPU are replaced, and by such as it can run", "[linalg]") {
  const CpuFeatures old{false, false}, avx2{true, false}, avx512{true, true};
  REQUIRE(better_blas_kernels("Prescott", avx512) == "SkylakeX");
  REQUIRE(better_blas_kernels("Prescott", avx2) == "Haswell");
  REQUIRE_FALSE(better_blas_kernels("Prescott", old));
  for (const char* known : {"Haswell", "Zen", "SkylakeX", "Cooperlake", "Sapphirerapids", "Nehalem"})
    REQUIRE_FALSE(better_blas_kernels(known, avx512));
  REQUIRE_FALSE(blas_kernels().empty());
}

TEST_CASE("parallel_for visits every index once and throws the first error by index", "[linalg]") {
  std::vector<int> visits(1000);
  parallel_for(1000, [&](std::int64_t i) { ++visits[static_cast<std::size_t>(i)]; });
  REQUIRE(std::all_of(visits.begin(), visits.end(), [](int v) { return v == 1; }));

  std::int64_t covered = 0, pieces = 0;
  test::with_threads(1, [&] {
    parallel_for_chunks(10, 4,
                        [&](std::int64_t begin, std::int64_t end) { covered += end - begin, ++pieces; });
    return 0;
  });
  REQUIRE((covered == 10 && pieces == 3));

  const auto fail = [](std::int64_t i) {
    if (i % 7 == 3) throw Error(ErrorKind::bad_input, std::to_string(i));
  };
  REQUIRE_THROWS_WITH(parallel_for(1000, fail), "3");
}

}  // namespace
}  // namespace mpk
