#pragma once
// What a layer should be rounded to when its inputs are not the float model's any more.
//
// With X (K, M) the inputs in the model quantized so far, X_f those in the float model, and R, R_f (N, M)
// what the outputs are added to (the residual stream; nothing for most layers), the weight that brings the
// sum nearest to the float one, least squares over V of |V^T X + R - W^T X_f - R_f|^2, is
//
//   V = W + (X X^T)^-1 (E W + F),   E = X (X_f - X)^T,   F = X (R_f - R)^T (1)
//
// It makes up for the error of all layers before, as far as this layer's inputs show it. The whole step
// follows the calibration tokens too closely; half of it generalizes better.

#include "quantizer/methods.hpp"

namespace mpk {

/// What a layer's inputs say about the error of those before it.
struct InputError {
  MatrixF shift;     ///< (K, K): E; empty: nothing is known
  MatrixF residual;  ///< (K, N): F; empty: the output is added to nothing
};

/// The part `strength` of the way from W to (1), (K, N). `hessian` = X X^T (K, K). `damp` as in
/// QuantizerOptions, raised likewise where H needs it. Throws Error{bad_input} if H is no sum of x x^T.
MatrixF corrected_target(ConstMatrixRef weight, const MatrixF& hessian, const InputError& error,
                         double strength, double damp);

}  // namespace mpk
