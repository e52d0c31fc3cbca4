#include "quantizer/descent.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "quantizer/linalg/parallel.hpp"
#include "quantizer/rounding.hpp"

namespace mpk {
namespace {

using Eigen::Index;

constexpr Index kLanes = 32;   // outputs side by side in vectors, as in gptq.cpp
constexpr Index kBlock = 128;  // inputs between two GEMMs
using Lanes = Eigen::Array<float, kLanes, 1>;

/// One block of inputs as a chunk of outputs sees it.
struct Block {
  Index begin, end;
  MatrixF hessian;   // (width, width), damped
  MatrixF gradient;  // (N, width): e H as of the block's start
};

/// The best of the scales that can be stored, if the loss falls from `scale` (1); its sign stays.
/// `slope` = q^T g, `curvature` = q^T H q.
float refitted(float scale, float slope, float curvature, DType dtype) {
  if (!(curvature > 0)) return scale;
  const float stored = representable_scale(scale - slope / curvature, dtype);
  const float step = stored - scale;
  const bool falls = step * (2 * slope + step * curvature) < 0;
  return std::isfinite(stored) && falls && std::signbit(stored) == std::signbit(scale) ? stored : scale;
}

/// kLanes outputs in one block. All vectors are indexed by input, relative to the block.
class Chunk {
 public:
  Chunk(QuantizedMatrix& q, const Block& block, Index n)
      : q_{q}, block_{block}, n_{n}, count_{std::min(kLanes, q.codes.cols() - n)} {
    const Index width = block.end - block.begin;
    level_.assign(static_cast<std::size_t>(width), Lanes::Zero());
    change_ = level_;
    for (Index lane = 0; lane < count_; ++lane)
      for (Index i = 0; i < width; ++i)
        at(level_, i)(lane) =
            static_cast<float>(q.codes(block.begin + i, n + lane)) - zero_of(q, group_of(i), n + lane);
  }

  /// Inputs [begin, end) of the block, which lie in one group.
  void visit(Index begin, Index end, bool whole_group) {
    const Index group = group_of(begin);
    Lanes scale = Lanes::Ones(), lowest = Lanes::Zero();
    for (Index lane = 0; lane < count_; ++lane) {
      scale(lane) = q_.scales(group, n_ + lane);
      lowest(lane) = -zero_of(q_, group, n_ + lane);
    }
    const Lanes highest = lowest + static_cast<float>(q_.scheme.type.max_code());
    if (whole_group) refit(begin, end, scale);
    for (Index i = begin; i < end; ++i) {
      const float curvature = block_.hessian(i, i);
      if (!(curvature > 0)) continue;
      const Lanes target = at(level_, i) - gradient(i, end) / (curvature * scale);
      Lanes level;
      for (Index lane = 0; lane < kLanes; ++lane)
        level(lane) = Levels::nearest(target(lane), lowest(lane), highest(lane));
      at(change_, i) += (level - at(level_, i)) * scale;
      at(level_, i) = level;
    }
    for (Index lane = 0; lane < count_; ++lane) {
      q_.scales(group, n_ + lane) = scale(lane);
      for (Index i = begin; i < end; ++i)
        q_.codes(block_.begin + i, n_ + lane) = Levels::code(at(level_, i)(lane), lowest(lane));
    }
  }

 private:
  Index group_of(Index i) const { return (block_.begin + i) / q_.scheme.rows_per_group(q_.k()); }
  static Lanes& at(std::vector<Lanes>& lanes, Index i) { return lanes[static_cast<std::size_t>(i)]; }

  /// (H e)_i now, if no input from `end` on has changed since the block began.
  Lanes gradient(Index i, Index end) const {
    Lanes sum = Lanes::Zero();
    for (Index lane = 0; lane < count_; ++lane) sum(lane) = block_.gradient(n_ + lane, i);
    const float* h = block_.hessian.col(i).data();
    for (Index j = 0; j < end; ++j) sum += change_[static_cast<std::size_t>(j)] * h[j];
    return sum;
  }

  void refit(Index begin, Index end, Lanes& scale) {
    Lanes slope = Lanes::Zero(), curvature = Lanes::Zero();  // q^T g and q^T H q
    for (Index i = begin; i < end; ++i) {
      slope += at(level_, i) * gradient(i, begin);
      Lanes image = Lanes::Zero();
      for (Index j = begin; j < end; ++j) image += at(level_, j) * block_.hessian(j, i);
      curvature += at(level_, i) * image;
    }
    Lanes step = Lanes::Zero();
    for (Index lane = 0; lane < count_; ++lane)
      step(lane) = refitted(scale(lane), slope(lane), curvature(lane), q_.scheme.scale_dtype) - scale(lane);
    scale += step;
    for (Index i = begin; i < end; ++i) at(change_, i) = step * at(level_, i);
  }

  QuantizedMatrix& q_;
  const Block& block_;
  Index n_, count_;
  std::vector<Lanes> level_;   // code - zero
  std::vector<Lanes> change_;  // of w_hat since the block's start
};

/// The scales of a matrix with one group, and `error` with them.
void refit_columns(QuantizedMatrix& q, ConstMatrixRef weight, const MatrixF& hessian, double damping,
                   MatrixF& error) {
  MatrixF levels(weight.rows(), weight.cols()), image(weight.rows(), weight.cols());
  parallel_for(levels.cols(),
               [&](Index n) { levels.col(n) = q.codes.col(n).cast<float>().array() - zero_of(q, 0, n); });
  gemm(Op::none, Op::none, 1.0f, hessian, levels, 0.0f, image);
  parallel_for(levels.cols(), [&](Index n) {
    image.col(n) += static_cast<float>(damping) * levels.col(n);
    const auto wide = image.col(n).cast<double>();
    q.scales(0, n) =
        refitted(q.scales(0, n), static_cast<float>(error.col(n).cast<double>().dot(wide)),
                 static_cast<float>(levels.col(n).cast<double>().dot(wide)), q.scheme.scale_dtype);
    error.col(n) = levels.col(n) * q.scales(0, n) - weight.col(n);
  });
}

}  // namespace

void descend(QuantizedMatrix& q, ConstMatrixRef weight, const MatrixF& hessian, double damping, int sweeps) {
  const Index num_inputs = weight.rows();
  const Index rows = q.scheme.rows_per_group(q.k());
  const bool whole_groups = rows <= kBlock;
  const Index width = whole_groups ? kBlock / rows * rows : kBlock;
  MatrixF error = dequantize(q) - weight;  // (K, N)
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    if (!whole_groups && q.scales.rows() == 1) refit_columns(q, weight, hessian, damping, error);
    for (Index begin = 0; begin < num_inputs; begin += width) {
      Block block{begin, std::min(begin + width, num_inputs), {}, {}};
      const Index size = block.end - begin;
      block.hessian = hessian.block(begin, begin, size, size);
      block.hessian.diagonal().array() += static_cast<float>(damping);
      block.gradient = static_cast<float>(damping) * error.middleRows(begin, size).transpose();
      gemm(Op::transpose, Op::none, 1.0f, error, hessian.middleCols(begin, size), 1.0f, block.gradient);
      parallel_for_chunks(weight.cols(), kLanes, [&](Index n, Index n_end) {
        Chunk chunk{q, block, n};
        for (Index first = 0, last; first < size; first = last) {
          last =
              std::min(size, first + rows - (begin + first) % rows);  // to the end of the group or the block
          chunk.visit(first, last, whole_groups);
        }
        for (Index col = n; col < n_end; ++col)
          for (Index k = begin; k < block.end; ++k)
            error(k, col) =
                (static_cast<float>(q.codes(k, col)) - zero_of(q, k / rows, col)) * q.scales(k / rows, col) -
                weight(k, col);
      });
    }
  }
}

}  // namespace mpk
