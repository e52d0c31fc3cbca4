#pragma once
// Linear layers over windows of tokens.

#include <cstdint>
#include <span>
#include <string>

#include "quantizer/linalg/gemm.hpp"

namespace mpk {

/// One linear layer: y = weight^T x + bias.
struct Linear {
  std::string module;    ///< checkpoint name without ".weight", e.g. "model.layers.0.mlp.down_proj"
  MatrixF weight;        ///< (K, N)
  Eigen::VectorXf bias;  ///< (N), or empty
};

/// Rows and columns of the result one task computes: large enough for the BLAS to reach its peak, small
/// enough that a handful of windows feeds many cores.
inline constexpr std::int64_t kLinearTile = 512;

/// y <- linear(x), x (K, M), y (N, M), for windows of `length` columns. No tile crosses the edge of a window,
/// so a window's bits are the same alone and among others: a BLAS treats the last columns of a product
/// differently.
void apply(const Linear& linear, std::int64_t length, ConstMatrixRef x, MatrixRef y);
/// For windows of any widths: window w owns columns edges[w] .. edges[w + 1] - 1.
void apply(const Linear& linear, std::span<const Eigen::Index> edges, ConstMatrixRef x, MatrixRef y);
void apply(const MatrixF& weight, std::int64_t length, ConstMatrixRef x, MatrixRef y);

/// y <- y + linear(x).
void add_applied(const Linear& linear, std::int64_t length, ConstMatrixRef x, MatrixRef y);

}  // namespace mpk
