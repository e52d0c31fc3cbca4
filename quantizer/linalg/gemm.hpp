#pragma once
// Matrix products on the CPU: OpenMP over fixed tiles of the result, one single-threaded BLAS call per tile.
// A tile is always summed over its whole inner dimension by one thread, so the bits do not depend on how many
// threads there are. All matrices are column-major float32.

#include <Eigen/Core>

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

using ConstMatrixRef = Eigen::Ref<const MatrixF, 0, Eigen::OuterStride<>>;
using MatrixRef = Eigen::Ref<MatrixF, 0, Eigen::OuterStride<>>;

enum class Op { none, transpose };

/// c = alpha * op(a) * op(b) + beta * c.  Shapes as usual: op(a) (m, k), op(b) (k, n), c (m, n).
void gemm(Op op_a, Op op_b, float alpha, ConstMatrixRef a, ConstMatrixRef b, float beta, MatrixRef c);

/// h += x * x^T, both triangles written.  x (K, M): one column per token.  h (K, K).
void add_gram(ConstMatrixRef x, MatrixRef h);

/// y = weight^T * x: a linear layer.  weight (K, N), x (K, M), y (N, M).
inline void apply_linear(ConstMatrixRef weight, ConstMatrixRef x, MatrixRef y) {
  gemm(Op::transpose, Op::none, 1.0f, weight, x, 0.0f, y);
}

}  // namespace mpk
