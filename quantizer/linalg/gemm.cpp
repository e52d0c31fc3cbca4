#include "quantizer/linalg/gemm.hpp"

#include <algorithm>
#include <cstdint>

#include <cblas.h>

namespace mpk {
namespace {

constexpr Eigen::Index kTile = 512;      // of the result; large enough for the BLAS to reach its peak
constexpr Eigen::Index kLeastTile = 64;  // below this it spends its time on copying
constexpr Eigen::Index kEnoughTiles = 8;

Eigen::Index num_tiles(Eigen::Index extent, Eigen::Index tile) {
  return (extent + tile - 1) / tile;
}

/// Tiles for a result of this shape: smaller ones if there would be too few to share. Never a function of the
/// number of threads, since the tile decides the bits.
struct Tiling {
  Eigen::Index rows = kTile, cols = kTile;
  Tiling(Eigen::Index m, Eigen::Index n) {
    while (num_tiles(m, rows) * num_tiles(n, cols) < kEnoughTiles) {
      Eigen::Index& larger = std::min(rows, m) >= std::min(cols, n) ? rows : cols;
      if (larger <= kLeastTile) break;
      larger /= 2;
    }
  }
};

/// Threads come from OpenMP over tiles; a second level inside the BLAS would only oversubscribe.
void use_one_blas_thread() {
  static const bool once = [] {
    openblas_set_num_threads(1);
    return true;
  }();
  (void)once;
}

CBLAS_TRANSPOSE cblas(Op op) {
  return op == Op::none ? CblasNoTrans : CblasTrans;
}

blasint blas_int(Eigen::Index value) {
  return static_cast<blasint>(value);
}

}  // namespace

void gemm(Op op_a, Op op_b, float alpha, ConstMatrixRef a, ConstMatrixRef b, float beta, MatrixRef c) {
  use_one_blas_thread();
  const Eigen::Index inner = op_a == Op::none ? a.cols() : a.rows();
  const Tiling tiling{c.rows(), c.cols()};
  const Eigen::Index row_tiles = num_tiles(c.rows(), tiling.rows);
  const Eigen::Index tiles = row_tiles * num_tiles(c.cols(), tiling.cols);
#pragma omp parallel for schedule(dynamic)
  for (Eigen::Index tile = 0; tile < tiles; ++tile) {
    const Eigen::Index row = tile % row_tiles * tiling.rows, col = tile / row_tiles * tiling.cols;
    const Eigen::Index rows = std::min(tiling.rows, c.rows() - row);
    const Eigen::Index cols = std::min(tiling.cols, c.cols() - col);
    const float* a_tile = op_a == Op::none ? a.data() + row : a.data() + row * a.outerStride();
    const float* b_tile = op_b == Op::none ? b.data() + col * b.outerStride() : b.data() + col;
    cblas_sgemm(CblasColMajor, cblas(op_a), cblas(op_b), blas_int(rows), blas_int(cols), blas_int(inner),
                alpha, a_tile, blas_int(a.outerStride()), b_tile, blas_int(b.outerStride()), beta,
                c.data() + row + col * c.outerStride(), blas_int(c.outerStride()));
  }
}

void add_gram(ConstMatrixRef x, MatrixRef h) {
  use_one_blas_thread();
  const Eigen::Index side = num_tiles(h.rows(), kTile);
  const Eigen::Index tiles = side * (side + 1) / 2;
#pragma omp parallel for schedule(dynamic)
  for (Eigen::Index tile = 0; tile < tiles; ++tile) {
    Eigen::Index tile_row = 0, left = tile;  // lower triangle, row by row
    while (left > tile_row) left -= ++tile_row;
    const Eigen::Index row = tile_row * kTile, col = left * kTile;
    const Eigen::Index rows = std::min(kTile, h.rows() - row), cols = std::min(kTile, h.rows() - col);
    cblas_sgemm(CblasColMajor, CblasNoTrans, CblasTrans, blas_int(rows), blas_int(cols), blas_int(x.cols()),
                1.0f, x.data() + row, blas_int(x.outerStride()), x.data() + col, blas_int(x.outerStride()),
                1.0f, h.data() + row + col * h.outerStride(), blas_int(h.outerStride()));
  }
#pragma omp parallel for schedule(static)
  for (Eigen::Index col = 1; col < h.cols(); ++col)
    for (Eigen::Index row = 0; row < col; ++row) h(row, col) = h(col, row);
}

}  // namespace mpk
