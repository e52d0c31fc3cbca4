#include "quantizer/target.hpp"

#include "quantizer/act_order.hpp"
#include "quantizer/hessian.hpp"
#include "quantizer/linalg/cholesky.hpp"

namespace mpk {

MatrixF corrected_target(ConstMatrixRef weight, const MatrixF& hessian, const InputError& error,
                         double strength, double damp) {
  MatrixF target = weight;
  // The first layer sees the float model's inputs; an expert nobody was routed to sees none at all.
  const bool nothing = error.shift.isZero(0) && error.residual.isZero(0);
  if (strength == 0 || nothing || hessian.diagonal().isZero(0)) return target;
  const DampedFactor factor = damped_factor(hessian, solve_order(hessian, ActOrder::none), damp);
  MatrixF step = MatrixF::Zero(weight.rows(), weight.cols());
  if (error.residual.size() > 0) step = error.residual;
  if (error.shift.size() > 0) gemm(Op::none, Op::none, 1.0f, error.shift, weight, 1.0f, step);
  solve_by_factor(factor.r, step);
  target += static_cast<float>(strength) * step;
  return target;
}

}  // namespace mpk
