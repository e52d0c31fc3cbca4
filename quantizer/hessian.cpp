#include "quantizer/hessian.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "quantizer/linalg/cholesky.hpp"
#include "quantizer/linalg/parallel.hpp"

namespace mpk {
namespace {

constexpr double kLeastRaise = 1e-4;  // where raising starts from if no damping was asked for
constexpr double kMostDamping = 1.0;  // beyond this H hardly matters any more

double mean_diagonal(const MatrixF& hessian) {
  return hessian.diagonal().cast<double>().mean();
}

/// The upper triangle of H in solve order, with `added` on its diagonal.
void gather_upper(const MatrixF& hessian, std::span<const Eigen::Index> order, double added, double for_dead,
                  MatrixF& out) {
  parallel_for(hessian.cols(), [&](Eigen::Index col) {
    const auto source = hessian.col(order[static_cast<std::size_t>(col)]);
    for (Eigen::Index row = 0; row <= col; ++row)
      out(row, col) = source(order[static_cast<std::size_t>(row)]);
    const double diagonal = out(col, col);
    out(col, col) = static_cast<float>((diagonal == 0 ? for_dead : diagonal) + added);
  });
}

}  // namespace

std::vector<Eigen::Index> dead_inputs(const MatrixF& hessian) {
  std::vector<Eigen::Index> dead;
  for (Eigen::Index k = 0; k < hessian.rows(); ++k)
    if (hessian(k, k) == 0) dead.push_back(k);
  return dead;
}

double raised_damp(double damp, double mean) {
  if (damp >= kMostDamping)
    throw Error(
        ErrorKind::bad_input,
        fmt::format("the Hessian is not positive definite even with {} of its mean diagonal ({}) added; "
                    "it is no sum of x x^T",
                    damp, mean));
  return std::min(std::max(10 * damp, kLeastRaise), kMostDamping);
}

DampedFactor damped_factor(const MatrixF& hessian, std::span<const Eigen::Index> order, double damp) {
  const double mean = mean_diagonal(hessian);
  DampedFactor result{MatrixF(hessian.rows(), hessian.cols()), damp, damp * mean};
  for (;;) {
    result.added = result.damp * mean;
    gather_upper(hessian, order, result.added, mean, result.r);
    if (factor_upper(result.r)) return result;
    result.damp = raised_damp(result.damp, mean);
  }
}

Eigen::VectorXf importance_of(const LinearLayer& layer, const QuantizerOptions& options) {
  if (options.ranges != Ranges::hessian || !layer.hessian) return {};
  const double mean = mean_diagonal(*layer.hessian);
  if (!(mean > 0)) return {};
  return layer.hessian->diagonal() / static_cast<float>(mean);
}

double output_energy(ConstMatrixRef weight, const MatrixF* hessian) {
  Eigen::VectorXd energy = Eigen::VectorXd::Zero(weight.cols());
  if (!hessian) {
    parallel_for(weight.cols(),
                 [&](Eigen::Index n) { energy(n) = weight.col(n).cast<double>().squaredNorm(); });
    return energy.sum();
  }
  // By symmetry w^T H w is twice what lies above the diagonal blocks, plus the diagonal blocks.
  constexpr Eigen::Index kBlock = 512;
  MatrixF image(std::min(kBlock, weight.rows()), weight.cols());
  for (Eigen::Index begin = 0; begin < weight.rows(); begin += kBlock) {
    const Eigen::Index width = std::min(kBlock, weight.rows() - begin);
    MatrixRef part = image.topRows(width);
    gemm(Op::transpose, Op::none, 1.0f, hessian->block(begin, begin, width, width),
         weight.middleRows(begin, width), 0.0f, part);
    if (begin > 0)
      gemm(Op::transpose, Op::none, 2.0f, hessian->block(0, begin, begin, width), weight.topRows(begin), 1.0f,
           part);
    parallel_for(weight.cols(), [&](Eigen::Index n) {
      energy(n) += part.col(n).cast<double>().dot(weight.col(n).segment(begin, width).cast<double>());
    });
  }
  return energy.sum();
}

}  // namespace mpk
