#pragma once
// What the solvers need of a Hessian: which inputs are dead, a factor that exists, the energy of an output.

#include <span>
#include <vector>

#include "quantizer/methods.hpp"

namespace mpk {

/// Inputs that were zero in every calibration token: H_kk = 0.
std::vector<Eigen::Index> dead_inputs(const MatrixF& hessian);

/// What to try where H with `damp` was not positive definite: ten times as much. Throws Error{bad_input}
/// where H would hardly matter any more. `mean`: of its diagonal, for the message.
double raised_damp(double damp, double mean);

struct DampedFactor {
  MatrixF r;         ///< (K, K) upper triangular, R R^T = the damped Hessian in solve order
  double damp = 0;   ///< in units of the Hessian's mean diagonal
  double added = 0;  ///< the same in the Hessian's units: what every diagonal entry gained
};

/// Factors H + damp * mean(diag H) with rows and columns gathered by `order`. Dead inputs get the mean
/// diagonal, which decouples them from everything else. If H is still not positive definite, damp is raised
/// tenfold until it is. Throws Error{bad_input} if even a damp of 1 does not help.
DampedFactor damped_factor(const MatrixF& hessian, std::span<const Eigen::Index> order, double damp);

/// What each input counts in a range search: H_kk in units of the mean (Ranges::hessian); else empty. Without
/// a Hessian, or with one of zeros, all count alike.
Eigen::VectorXf importance_of(const LinearLayer& layer, const QuantizerOptions& options);

/// tr(W^T H W), the energy of the layer's output on the calibration tokens; nullptr: H = 1.
double output_energy(ConstMatrixRef weight, const MatrixF* hessian);

/// lost / total, and 0 for a layer whose output is zero anyway.
inline double loss_ratio(double lost, double total) {
  return total > 0 ? lost / total : 0;
}

}  // namespace mpk
