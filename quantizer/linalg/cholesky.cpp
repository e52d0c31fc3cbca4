#include "quantizer/linalg/cholesky.hpp"

#include <algorithm>

#include <Eigen/Cholesky>

#include "quantizer/linalg/parallel.hpp"

namespace mpk {
namespace {

constexpr Eigen::Index kBlock = 128;  // columns finished at a time
constexpr Eigen::Index kStrip = 64;   // rows of a panel, or right sides, one thread solves at a time

/// The upper factor of one diagonal block, empty if it has none. Reversing rows and columns turns it into the
/// ordinary lower factor.
MatrixD factor_block(ConstMatrixRef block) {
  const MatrixD reversed = block.cast<double>().reverse();
  const Eigen::LLT<MatrixD> lower(reversed);
  if (lower.info() != Eigen::Success) return {};
  const MatrixD factor = lower.matrixL();
  if (!factor.allFinite()) return {};
  return factor.reverse();
}

/// panel <- panel * factor^-T
void solve_panel(const MatrixD& factor, MatrixRef panel) {
  parallel_for_chunks(panel.rows(), kStrip, [&](Eigen::Index begin, Eigen::Index end) {
    MatrixD strip = panel.middleRows(begin, end - begin).cast<double>();
    factor.transpose().triangularView<Eigen::Lower>().solveInPlace<Eigen::OnTheRight>(strip);
    panel.middleRows(begin, end - begin) = strip.cast<float>();
  });
}

}  // namespace

bool factor_upper(MatrixRef h) {
  const Eigen::Index size = h.rows();
  for (Eigen::Index end = size; end > 0;) {
    const Eigen::Index width = std::min(kBlock, end), begin = end - width, done = size - end;
    if (done > 0)  // what the finished columns already explain of these
      gemm(Op::none, Op::transpose, -1.0f, h.block(0, end, end, done), h.block(begin, end, width, done), 1.0f,
           h.block(0, begin, end, width));
    const MatrixD factor = factor_block(h.block(begin, begin, width, width));
    if (factor.size() == 0) return false;
    h.block(begin, begin, width, width) = factor.cast<float>();
    solve_panel(factor, h.block(0, begin, begin, width));
    h.block(end, begin, done, width).setZero();
    end = begin;
  }
  return true;
}

void solve_by_factor(const MatrixF& r, MatrixRef b) {
  const auto factor = r.triangularView<Eigen::Upper>();
  parallel_for_chunks(b.cols(), kStrip, [&](Eigen::Index begin, Eigen::Index end) {
    auto strip = b.middleCols(begin, end - begin);
    factor.solveInPlace(strip);
    factor.transpose().solveInPlace(strip);
  });
}

}  // namespace mpk
