#pragma once
// Better codes and scales for a layer that is already quantized: coordinate descent on the loss d^T H d.
//
// A solver that goes through the inputs once fixes the first codes before it knows what the last can still
// make up for. A sweep visits every group again with all others fixed. With e = w_hat - w and g = H e, the
// group's scale is refitted first, s <- s - q^T g / (q^T H q) (1), then each of its codes, q_k <- nearest(q_k
// - g_k / (H_kk s)). Every step is the best one along its coordinate, kept only if the loss falls, so the
// loss never rises.

#include "quantizer/methods.hpp"

namespace mpk {

/// Sweeps over `q` in storage order. `damping` is added to the Hessian's diagonal, in its units.
/// Scales are refitted where a group has at most 128 rows or a column one scale, codes always.
void descend(QuantizedMatrix& q, ConstMatrixRef weight, const MatrixF& hessian, double damping, int sweeps);

}  // namespace mpk
