#include "model/linear.hpp"

#include <algorithm>

namespace mpk {
namespace {

std::int64_t num_tiles(std::int64_t extent) {
  return (extent + kLinearTile - 1) / kLinearTile;
}

/// y <- keep * y + weight^T x + bias, keep 0 or 1. A tile is one tile of gemm() too, which a thread of this
/// loop computes by itself.
void apply_tiles(const MatrixF& weight, const Eigen::VectorXf& bias, std::int64_t length,
                 const ConstMatrixRef& x, float keep, MatrixRef& y) {
  const std::int64_t n = weight.cols();
  const std::int64_t row_tiles = num_tiles(n), col_tiles = num_tiles(length);
  const std::int64_t tiles = row_tiles * col_tiles * (x.cols() / length);
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    // Neighbours share the columns of x and pass over the weight, which outgrows the cache first.
    const std::int64_t row = tile % row_tiles * kLinearTile;
    const std::int64_t col_tile = tile / row_tiles;
    const std::int64_t col_in_window = col_tile % col_tiles * kLinearTile;
    const std::int64_t col = col_tile / col_tiles * length + col_in_window;
    const std::int64_t rows = std::min(kLinearTile, n - row);
    const std::int64_t cols = std::min(kLinearTile, length - col_in_window);
    auto y_tile = y.block(row, col, rows, cols);
    gemm(Op::transpose, Op::none, 1.0f, weight.middleCols(row, rows), x.middleCols(col, cols), keep, y_tile);
    if (bias.size() > 0) y_tile.colwise() += bias.segment(row, rows);
  }
}

}  // namespace

void apply(const Linear& linear, std::int64_t length, ConstMatrixRef x, MatrixRef y) {
  apply_tiles(linear.weight, linear.bias, length, x, 0.0f, y);
}

void apply(const MatrixF& weight, std::int64_t length, ConstMatrixRef x, MatrixRef y) {
  apply_tiles(weight, {}, length, x, 0.0f, y);
}

void add_applied(const Linear& linear, std::int64_t length, ConstMatrixRef x, MatrixRef y) {
  apply_tiles(linear.weight, linear.bias, length, x, 1.0f, y);
}

}  // namespace mpk
