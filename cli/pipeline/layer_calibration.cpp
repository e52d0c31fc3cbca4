#include "cli/pipeline/layer_calibration.hpp"

#include <algorithm>
#include <optional>

#include "cli/pipeline/timer.hpp"

namespace mpk {
namespace {

/// sum += x difference^T
void add_product(const MatrixF& x, const MatrixF& difference, MatrixF& sum) {
  if (sum.size() == 0) sum = MatrixF::Zero(x.rows(), difference.rows());
  gemm(Op::none, Op::transpose, 1.0f, x, difference, 1.0f, sum);
}

}  // namespace

/// The activations of the model quantized so far and, if it is followed, those of the float model.
struct LayerCalibration::Streams {
  LayerStream own;
  std::optional<LayerStream> of_float;
};

/// Calls `work(begin, count)` for chunks of whole windows of x, small enough that a chunk's temporaries fit
/// beside it.
template <class Work>
void LayerCalibration::for_each_chunk(const MatrixF& x, Work work) const {
  const Eigen::Index step = windows_per_chunk(config_, length_) * length_;
  for (Eigen::Index begin = 0; begin < x.cols(); begin += step) work(begin, std::min(step, x.cols() - begin));
}

bool LayerCalibration::any_wanted(DecoderLayer& layer, LinearGroup group) const {
  return std::ranges::any_of(linears_of(layer, group),
                             [&](const Linear* linear) { return wanted_(linear->module); });
}

void LayerCalibration::see(LinearGroup group, bool wanted, Streams& streams, Eigen::Index begin,
                           Eigen::Index count, InputStatistics& seen) {
  const MatrixF *x = nullptr, *float_x = nullptr;
  {
    Timer timer{seconds_.forward};
    x = &streams.own.input(group, begin, count);
    if (streams.of_float) float_x = &streams.of_float->input(group, begin, count);
  }
  if (!wanted) return;
  Timer timer{seconds_.hessian};
  if (seen.hessian.size() == 0) seen.hessian = MatrixF::Zero(x->rows(), x->rows());
  add_gram(*x, seen.hessian);
  if (!float_x) return;
  add_product(*x, *float_x - *x, seen.error.shift);
  if (adds_to_residual(group))
    add_product(*x, streams.of_float->residual(begin, count) - streams.own.residual(begin, count),
                seen.error.residual);
}

void LayerCalibration::quantize_wanted(DecoderLayer& layer, LinearGroup group, const InputStatistics& seen,
                                       const Quantize& quantize) const {
  for (Linear* linear : linears_of(layer, group))
    if (wanted_(linear->module)) quantize(*linear, seen);
}

/// observe(); if `moves_float`, float_x goes through the layer.
GroupStatistics LayerCalibration::pass(DecoderLayer& layer, Activations& activations, bool moves_float) {
  GroupStatistics seen;
  // Copies of one chunk: x will pass once more, when the layer is quantized.
  const Eigen::Index room =
      std::min<Eigen::Index>(windows_per_chunk(config_, length_) * length_, activations.x.cols());
  MatrixF state(activations.x.rows(), room), float_state(activations.float_x.rows(), room);
  Streams streams{{config_, layer, length_, state}, {}};
  if (activations.float_x.size() > 0) streams.of_float.emplace(config_, layer, length_, float_state);
  for_each_chunk(activations.x, [&](Eigen::Index begin, Eigen::Index count) {
    state.leftCols(count) = activations.x.middleCols(begin, count);
    if (streams.of_float) float_state.leftCols(count) = activations.float_x.middleCols(begin, count);
    for (std::size_t i = 0; i < kLinearGroups.size(); ++i)
      see(kLinearGroups[i], any_wanted(layer, kLinearGroups[i]), streams, 0, count, seen[i]);
    if (streams.of_float && moves_float) {
      Timer timer{seconds_.forward};
      streams.of_float->finish_at_once(0, count);
      activations.float_x.middleCols(begin, count) = float_state.leftCols(count);
    }
  });
  return seen;
}

GroupStatistics LayerCalibration::observe(DecoderLayer& layer, Activations& activations) {
  return pass(layer, activations, false);
}

void LayerCalibration::at_once(DecoderLayer& layer, Activations& activations, const Quantize& quantize) {
  const GroupStatistics seen = pass(layer, activations, !is_last(layer));
  for (std::size_t i = 0; i < kLinearGroups.size(); ++i)
    quantize_wanted(layer, kLinearGroups[i], seen[i], quantize);
  if (is_last(layer)) return;
  Timer timer{seconds_.forward};
  forward_layer(config_, layer, length_, activations.x, {});
}

void LayerCalibration::by_groups(DecoderLayer& layer, Activations& activations, const Quantize& quantize) {
  const bool follows_float = activations.float_x.size() > 0;
  const std::optional<DecoderLayer> float_layer = follows_float ? std::optional{layer} : std::nullopt;
  Streams streams{{config_, layer, length_, activations.x}, {}};
  if (follows_float) streams.of_float.emplace(config_, *float_layer, length_, activations.float_x);
  for (const LinearGroup group : kLinearGroups) {
    InputStatistics seen;
    const bool wanted = any_wanted(layer, group);
    for_each_chunk(activations.x, [&](Eigen::Index begin, Eigen::Index count) {
      see(group, wanted, streams, begin, count, seen);
      if (group != LinearGroup::down || !streams.of_float || is_last(layer)) return;
      Timer timer{seconds_.forward};
      streams.of_float->finish_at_once(begin, count);
    });
    quantize_wanted(layer, group, seen, quantize);
  }
  if (is_last(layer)) return;
  Timer timer{seconds_.forward};
  for_each_chunk(activations.x,
                 [&](Eigen::Index begin, Eigen::Index count) { streams.own.finish(begin, count); });
}

}  // namespace mpk
