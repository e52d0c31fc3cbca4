#pragma once
// H = R R^T with R upper triangular: the Cholesky factorisation that begins at the last row instead of the
// first.
//
// With it ||x^T R||^2 = x^T H x, and entry k of x^T R depends on x_0 .. x_k only, so that a loss under H can
// be minimised entry by entry from the front. (R is the inverse of the factor GPTQ takes of H^-1, found
// without inverting anything.)
//
// Storage is float32 so that K = 28672 fits; the products between blocks are float32 GEMMs, the diagonal
// blocks and the triangular solves against them are double.

#include "quantizer/linalg/gemm.hpp"

namespace mpk {

/// Reads the upper triangle of `h`, overwrites it by R and zeroes what is below the diagonal.
/// False if h is not positive definite to working precision; `h` is then unspecified.
[[nodiscard]] bool factor_upper(MatrixRef h);

/// b <- (R R^T)^-1 b for the factor R (K, K) of factor_upper and b (K, N).
void solve_by_factor(const MatrixF& r, MatrixRef b);

}  // namespace mpk
