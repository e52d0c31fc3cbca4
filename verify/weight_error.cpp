#include "verify/weight_error.hpp"

#include <cmath>

#include "quantizer/linalg/gemm.hpp"

namespace mpk {
namespace {

/// |difference|_F / |whole|_F, both given by columns.
template <class Difference, class Whole>
double relative_norm(Eigen::Index columns, Difference difference, Whole whole) {
  Eigen::VectorXd lost(columns), all(columns);
#pragma omp parallel for schedule(static)
  for (Eigen::Index n = 0; n < columns; ++n) {
    lost[n] = difference(n).template cast<double>().squaredNorm();
    all[n] = whole(n).template cast<double>().squaredNorm();
  }
  const double total = all.sum();
  return total > 0 ? std::sqrt(lost.sum() / total) : 0.0;
}

}  // namespace

double weight_error(const MatrixF& weight, const MatrixF& decoded) {
  return relative_norm(
      weight.cols(), [&](Eigen::Index n) { return weight.col(n) - decoded.col(n); },
      [&](Eigen::Index n) { return weight.col(n); });
}

double output_error(const MatrixF& weight, const MatrixF& decoded, const MatrixF& inputs) {
  // Products first: a difference of the weights would be one more copy of them.
  MatrixF made(weight.cols(), inputs.cols()), whole(weight.cols(), inputs.cols());
  apply_linear(decoded, inputs, made);
  apply_linear(weight, inputs, whole);
  return relative_norm(
      inputs.cols(), [&](Eigen::Index m) { return whole.col(m) - made.col(m); },
      [&](Eigen::Index m) { return whole.col(m); });
}

}  // namespace mpk
