#include "model/linear.hpp"

#include <algorithm>
#include <vector>

namespace mpk {
namespace {

std::int64_t num_tiles(std::int64_t extent) {
  return (extent + kLinearTile - 1) / kLinearTile;
}

struct Columns {
  Eigen::Index begin, count;
};

void add_tiles(Eigen::Index begin, Eigen::Index end, std::vector<Columns>& tiles) {
  for (; begin < end; begin += kLinearTile) tiles.push_back({begin, std::min(kLinearTile, end - begin)});
}

std::vector<Columns> tiles_of(std::int64_t length, Eigen::Index columns) {
  std::vector<Columns> tiles;
  for (Eigen::Index begin = 0; begin < columns; begin += length) add_tiles(begin, begin + length, tiles);
  return tiles;
}

/// y <- keep * y + weight^T x + bias, keep 0 or 1. A tile is one tile of gemm() too, which a thread of this
/// loop computes by itself.
void apply_tiles(const MatrixF& weight, const Eigen::VectorXf& bias, const std::vector<Columns>& columns,
                 const ConstMatrixRef& x, float keep, MatrixRef& y) {
  const std::int64_t n = weight.cols();
  const std::int64_t row_tiles = num_tiles(n);
  const std::int64_t tiles = row_tiles * std::ssize(columns);
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    // Neighbours share the columns of x and pass over the weight, which outgrows the cache first.
    const std::int64_t row = tile % row_tiles * kLinearTile;
    const auto [col, cols] = columns[static_cast<std::size_t>(tile / row_tiles)];
    const std::int64_t rows = std::min(kLinearTile, n - row);
    auto y_tile = y.block(row, col, rows, cols);
    gemm(Op::transpose, Op::none, 1.0f, weight.middleCols(row, rows), x.middleCols(col, cols), keep, y_tile);
    if (bias.size() > 0) y_tile.colwise() += bias.segment(row, rows);
  }
}

}  // namespace

void apply(const Linear& linear, std::int64_t length, ConstMatrixRef x, MatrixRef y) {
  apply_tiles(linear.weight, linear.bias, tiles_of(length, x.cols()), x, 0.0f, y);
}

void apply(const Linear& linear, std::span<const Eigen::Index> edges, ConstMatrixRef x, MatrixRef y) {
  std::vector<Columns> tiles;
  for (std::size_t w = 0; w + 1 < edges.size(); ++w) add_tiles(edges[w], edges[w + 1], tiles);
  apply_tiles(linear.weight, linear.bias, tiles, x, 0.0f, y);
}

void apply(const MatrixF& weight, std::int64_t length, ConstMatrixRef x, MatrixRef y) {
  apply_tiles(weight, {}, tiles_of(length, x.cols()), x, 0.0f, y);
}

void add_applied(const Linear& linear, std::int64_t length, ConstMatrixRef x, MatrixRef y) {
  apply_tiles(linear.weight, linear.bias, tiles_of(length, x.cols()), x, 1.0f, y);
}

}  // namespace mpk
