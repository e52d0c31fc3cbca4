// GPTQ as a nearest-plane problem.
//
// The loss of one output is d^T H d with d = w - w_hat. With H = R R^T, R upper triangular, entry k of d^T R
// is
//
//   d_k R_kk + sum_{j<k} d_j R_jk
//
// and depends on the first k weights only. Going from the front, each square is least at the level nearest to
//
//   w_k + (sum_{j<k} d_j R_jk) / R_kk (1)
//
// (Babai's nearest plane). GPTQ reaches the same number from the other side: it takes U upper triangular with
// H^-1 = U^T U and, after each k, subtracts (t_k - w_hat_k) / U_kk * U_kj from every later t_j. Since
// H = (U^T U)^-1 = U^-1 U^-T, R is U^-1; and t = w - e U (strictly above the diagonal), e_k U_kk = t_k -
// w_hat_k, sums up to d = e U, e = d R, which is (1). What differs: no inverse is formed, the pull of all
// earlier errors on a block is one GEMM, and the loss e e^T comes for free.
//
// Where a group's scale is chosen when the group is reached, "its weights, corrected" are those that would
// undo the errors so far: (1) with w_hat = target in the group itself.

#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "quantizer/act_order.hpp"
#include "quantizer/checks.hpp"
#include "quantizer/descent.hpp"
#include "quantizer/hessian.hpp"
#include "quantizer/linalg/parallel.hpp"
#include "quantizer/methods.hpp"
#include "quantizer/ranges.hpp"
#include "quantizer/rounding.hpp"

namespace mpk {
namespace {

using Eigen::Index;

constexpr Index kLanes = 32;   // outputs that one thread carries through a block together, as vectors
constexpr Index kBlock = 128;  // inputs between two GEMMs
using Lanes = Eigen::Array<float, kLanes, 1>;

Index rounded_up(Index value, Index step) {
  return (value + step - 1) / step * step;
}

/// State of one layer. The working matrices have outputs as rows, so that lanes are contiguous, inputs as
/// columns in solve order, and are padded to whole chunks of kLanes with zero weights.
class Solver {
 public:
  Solver(ConstMatrixRef weight, const Eigen::VectorXf& importance, const QuantizerOptions& options,
         std::vector<Index> order, DampedFactor factor)
      : scheme_{options.scheme},
        num_inputs_{weight.rows()},
        num_outputs_{weight.cols()},
        rows_per_group_{options.scheme.rows_per_group(K{weight.rows()})},
        order_{std::move(order)},
        factor_{std::move(factor)},
        importance_{importance},
        codes_(weight.rows(), weight.cols()) {
    const Index padded = rounded_up(num_outputs_, kLanes);
    weights_ = MatrixF::Zero(padded, num_inputs_);
    parallel_for_chunks(num_outputs_, kLanes, [&](Index begin, Index end) {
      for (Index n = begin; n < end; ++n)
        for (Index k = 0; k < num_inputs_; ++k) weights_(n, k) = weight(row(k), n);
    });
    scales_ = MatrixF::Ones(padded, scheme_.groups(K{num_inputs_}).value);
    zeros_ = MatrixF::Constant(padded, scales_.cols(), static_cast<float>(scheme_.type.bias));
    // A group that is spread over the whole order, or spans all of it, has no moment at which it is reached.
    if (options.act_order == ActOrder::none && scheme_.group_size)
      search_.emplace(options);
    else
      set_ranges(find_ranges(weight, options, importance));
  }

  void solve() {
    const Index width = block_width();
    Eigen::VectorXd losses = Eigen::VectorXd::Zero(weights_.rows() / kLanes);
    MatrixF pull = MatrixF::Zero(weights_.rows(), std::min(width, num_inputs_));
    for (Index begin = 0; begin < num_inputs_; begin += width) {
      const Index end = std::min(begin + width, num_inputs_);
      if (begin > 0)
        gemm(Op::none, Op::none, 1.0f, weights_.leftCols(begin),
             factor_.r.block(0, begin, begin, end - begin), 0.0f, pull.leftCols(end - begin));
      parallel_for(losses.size(),
                   [&](Index chunk) { losses(chunk) += solve_block(chunk * kLanes, begin, end, pull); });
    }
    loss_ = std::max(losses.sum(), 0.0);
  }

  double loss() const { return loss_; }  ///< tr(D^T H D) without the damping
  QuantizedMatrix take() {
    QuantizedMatrix q{scheme_, std::move(codes_), scales_.topRows(num_outputs_).transpose()};
    if (scheme_.zero_points == ZeroPoints::integer)
      q.zero_points = zeros_.topRows(num_outputs_).transpose().cast<std::int16_t>();
    return q;
  }

 private:
  Index row(Index position) const { return order_[static_cast<std::size_t>(position)]; }
  Index group(Index position) const { return row(position) / rows_per_group_; }

  void set_ranges(const QuantizedMatrix& q) {
    scales_.topRows(num_outputs_) = q.scales.transpose();
    if (scheme_.zero_points == ZeroPoints::integer)
      zeros_.topRows(num_outputs_) = q.zero_points.transpose().cast<float>();
  }

  /// Blocks end where groups end if scales are chosen on the way.
  Index block_width() const {
    if (!search_) return kBlock;
    return rows_per_group_ >= kBlock ? rows_per_group_ : kBlock / rows_per_group_ * rows_per_group_;
  }

  auto lanes(MatrixF& matrix, Index n, Index col) { return matrix.col(col).segment<kLanes>(n).array(); }

  /// sum_{j<k} d_j R_jk: `pull` has what lies before the block, `errors` what lies in it.
  Lanes pull_on(Index n, Index begin, Index k, const MatrixF& pull, const std::vector<Lanes>& errors) const {
    Lanes sum = pull.col(k - begin).segment<kLanes>(n).array();
    const float* r = &factor_.r(begin, k);
    for (Index j = 0; j < k - begin; ++j) sum += errors[static_cast<std::size_t>(j)] * r[j];
    return sum;
  }

  /// Quantizes inputs [begin, end) of kLanes outputs from n on, leaves d in place of w, returns the loss.
  double solve_block(Index n, Index begin, Index end, const MatrixF& pull) {
    std::vector<Lanes> errors(static_cast<std::size_t>(end - begin));
    double loss = 0;
    for (Index k = begin; k < end; ++k) {
      if (search_ && k % rows_per_group_ == 0) choose_scales(n, begin, k, pull, errors);
      const float diagonal = factor_.r(k, k);
      const Lanes sum = pull_on(n, begin, k, pull, errors);
      auto weight = lanes(weights_, n, k);
      const auto scale = lanes(scales_, n, group(k));
      const Lanes target = (weight + sum / diagonal) / scale;
      const Lanes lowest = -lanes(zeros_, n, group(k)),
                  highest = lowest + static_cast<float>(scheme_.type.max_code());
      Lanes level;
      for (Index lane = 0; lane < kLanes; ++lane)
        level(lane) = Levels::nearest(target(lane), lowest(lane), highest(lane));
      for (Index lane = 0; lane < kLanes && n + lane < num_outputs_; ++lane)
        codes_(row(k), n + lane) = Levels::code(level(lane), lowest(lane));
      const Lanes error = weight - level * scale;
      loss += (error * diagonal + sum).cast<double>().square().sum() -
              factor_.added * error.cast<double>().square().sum();
      errors[static_cast<std::size_t>(k - begin)] = error;
      weight = error;
    }
    return loss;
  }

  /// Scales of the group that starts at position k, from its corrected weights. Its part of `errors` is
  /// scratch: there each weight is taken to land exactly on its target.
  void choose_scales(Index n, Index begin, Index k, const MatrixF& pull, std::vector<Lanes>& errors) {
    Eigen::Array<float, Eigen::Dynamic, kLanes> corrected(rows_per_group_, kLanes);
    for (Index i = 0; i < rows_per_group_; ++i) {
      const Lanes shift = pull_on(n, begin, k + i, pull, errors) / factor_.r(k + i, k + i);
      errors[static_cast<std::size_t>(k + i - begin)] = -shift;
      corrected.row(i) = (lanes(weights_, n, k + i) + shift).transpose();
    }
    for (Index lane = 0; lane < kLanes && n + lane < num_outputs_; ++lane)
      within(fmt::format("group {} of output {}", group(k), n + lane), [&] {
        const auto size = static_cast<std::size_t>(rows_per_group_);
        const std::span<const float> counts =
            importance_.size() > 0 ? std::span{importance_.data() + k, size} : std::span<const float>{};
        const GroupRange range = (*search_)({corrected.col(lane).data(), size}, counts);
        scales_(n + lane, group(k)) = range.scale;
        zeros_(n + lane, group(k)) = range.zero;
      });
  }

  Scheme scheme_;
  Index num_inputs_, num_outputs_, rows_per_group_;
  std::vector<Index> order_;  // (K) position -> storage row
  DampedFactor factor_;
  MatrixF weights_;                    // (N padded, K) w in solve order, d where already solved
  MatrixF scales_, zeros_;             // (N padded, groups)
  std::optional<RangeSearch> search_;  // if scales are chosen on the way
  const Eigen::VectorXf& importance_;  // (K) in storage order, which is solve order if search_; or empty
  Codes codes_;                        // (K, N) in storage order
  double loss_ = 0;
};

}  // namespace

QuantizedLinear gptq(const LinearLayer& layer, const QuantizerOptions& options) {
  check_layer(layer, options.scheme);
  if (!layer.hessian) throw Error(ErrorKind::bad_input, "gptq needs a Hessian");
  const MatrixF& hessian = *layer.hessian;
  const std::vector<Index> dead = dead_inputs(hessian);
  // No token came by (an expert nobody was routed to): nothing is known, all inputs count alike.
  if (static_cast<Index>(dead.size()) == hessian.rows()) return rtn({layer.weight, nullptr}, options);

  MatrixF weight = layer.weight;
  for (const Index k : dead) weight.row(k).setZero();  // whatever they are, no output depends on them
  std::vector<Index> order = solve_order(hessian, options.act_order);
  DampedFactor factor = damped_factor(hessian, order, options.damp);

  QuantizedLinear result;
  result.damp = factor.damp;
  const double damping = factor.added;
  const Eigen::VectorXf importance = importance_of(layer, options);
  Solver solver{weight, importance, options, std::move(order), std::move(factor)};
  solver.solve();
  double loss = solver.loss();
  result.matrix = solver.take();
  if (options.descent_sweeps > 0) {
    descend(result.matrix, weight, hessian, damping, options.descent_sweeps);
    loss = output_energy(weight - dequantize(result.matrix), layer.hessian);
  }
  result.relative_loss = loss_ratio(loss, output_energy(weight, layer.hessian));
  return result;
}

}  // namespace mpk
