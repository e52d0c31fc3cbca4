#include "cli/pipeline/layer_calibration.hpp"

#include <algorithm>
#include <numeric>
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
  std::vector<Routing> routing = {};  ///< of `own`, chunk by chunk
};

/// Calls `work(begin, count)` for chunks of whole windows, small enough that a chunk's temporaries fit beside
/// x.
template <class Work>
void LayerCalibration::for_each_chunk(Eigen::Index columns, Work work) const {
  const Eigen::Index step = chunk();
  for (Eigen::Index begin = 0; begin < columns; begin += step) work(begin, std::min(step, columns - begin));
}

bool LayerCalibration::any_wanted(const LinearGroup& group) const {
  return std::ranges::any_of(group.linears, [&](const Linear* linear) { return wanted_(linear->module); });
}

void LayerCalibration::add(const MatrixF& x, const MatrixF* float_x, InputStatistics& seen) {
  Timer timer{seconds_.hessian};
  if (seen.hessian.size() == 0) seen.hessian = MatrixF::Zero(x.rows(), x.rows());
  add_gram(x, seen.hessian);
  seen.tokens += x.cols();
  if (float_x) add_product(x, *float_x - x, seen.error.shift);
}

/// Of a group that reads all tokens.
void LayerCalibration::see(const LinearGroup& group, Streams& streams, Eigen::Index begin, Eigen::Index count,
                           InputStatistics& seen) {
  const MatrixF *x = nullptr, *float_x = nullptr;
  {
    Timer timer{seconds_.forward};
    x = &streams.own.input(group.stage, begin, count);
    if (streams.of_float) float_x = &streams.of_float->input(group.stage, begin, count);
  }
  if (!any_wanted(group)) return;
  add(*x, float_x, seen);
  if (!float_x || !group.adds_to_residual) return;
  Timer timer{seconds_.hessian};
  add_product(*x, streams.of_float->residual(begin, count) - streams.own.residual(begin, count),
              seen.error.residual);
}

/// Of an expert's group, over all `columns` of the streams. Its tokens are taken some windows at a time.
void LayerCalibration::see_routed(const LinearGroup& group, Streams& streams, Eigen::Index columns,
                                  InputStatistics& seen) {
  if (!any_wanted(group)) return;
  std::vector<Eigen::Index> tokens;
  for (std::size_t i = 0; i < streams.routing.size(); ++i)
    for (const Eigen::Index column : tokens_of(streams.routing[i], group.expert).columns)
      tokens.push_back(static_cast<Eigen::Index>(i) * chunk() + column);
  seen.routed_tokens = std::ssize(tokens);
  if (std::ssize(tokens) < group.linears.front()->weight.rows()) {
    tokens.resize(static_cast<std::size_t>(columns));
    std::iota(tokens.begin(), tokens.end(), 0);
  }
  const std::vector<Eigen::Index> edges = window_edges(tokens, length_);
  const std::span<const Eigen::Index> all{tokens};
  for (std::size_t window = 0; window + 1 < edges.size();) {
    const Eigen::Index begin = edges[window];
    do ++window;
    while (window + 1 < edges.size() && edges[window + 1] - begin <= chunk());
    const auto some =
        all.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(edges[window] - begin));
    const MatrixF *x = nullptr, *float_x = nullptr;
    {
      Timer timer{seconds_.forward};
      x = &streams.own.expert_input(group, some);
      if (streams.of_float) float_x = &streams.of_float->expert_input(group, some);
    }
    add(*x, float_x, seen);
  }
}

void LayerCalibration::end_attention(const DecoderLayer& layer, Streams& streams, Eigen::Index columns) {
  Timer timer{seconds_.forward};
  streams.routing.clear();
  for_each_chunk(columns, [&](Eigen::Index begin, Eigen::Index count) {
    streams.own.end_attention(begin, count);
    if (streams.of_float) streams.of_float->end_attention(begin, count);
    if (!layer.experts.empty()) streams.routing.push_back(streams.own.route(begin, count));
  });
}

void LayerCalibration::quantize_wanted(const LinearGroup& group, const InputStatistics& seen,
                                       const Quantize& quantize) const {
  for (Linear* linear : group.linears)
    if (wanted_(linear->module)) quantize(*linear, seen);
}

template <class After>
void LayerCalibration::visit(const LinearGroup& group, Streams& streams, Eigen::Index columns,
                             InputStatistics& seen, After after) {
  if (!group.reads_all_tokens()) return see_routed(group, streams, columns, seen);
  for_each_chunk(columns, [&](Eigen::Index begin, Eigen::Index count) {
    see(group, streams, begin, count, seen);
    after(begin, count);
  });
}

/// The stream's state of some columns goes through the rest of the layer, and back to where it came from.
void LayerCalibration::finish_pass(LayerStream& stream, const DecoderLayer& layer, const MatrixF& state,
                                   Eigen::Index first, Eigen::Index count, MatrixF& x) {
  Timer timer{seconds_.forward};
  if (layer.experts.empty())
    stream.finish_at_once(0, count);
  else
    for_each_chunk(count, [&](Eigen::Index b, Eigen::Index n) { stream.finish(b, n); });
  x.middleCols(first, count) = state.leftCols(count);
}

/// observe(); if `moves_own` and `moves_float`, x and float_x go through the layer.
GroupStatistics LayerCalibration::pass(DecoderLayer& layer, Activations& activations, bool moves_own,
                                       bool moves_float) {
  const std::vector<LinearGroup> groups = linear_groups(config_, layer);
  GroupStatistics seen(groups.size());
  // On copies: x will pass once more, when the layer is quantized. Of one chunk if that will do; what an
  // expert is shown depends on where all tokens go.
  const Eigen::Index columns = activations.x.cols();
  const Eigen::Index room = layer.experts.empty() ? std::min(chunk(), columns) : columns;
  MatrixF state(activations.x.rows(), room), float_state(activations.float_x.rows(), room);
  Streams streams{{config_, layer, length_, state}, {}};
  if (activations.float_x.size() > 0) streams.of_float.emplace(config_, layer, length_, float_state);
  for (Eigen::Index first = 0; first < columns; first += room) {
    const Eigen::Index count = std::min(room, columns - first);
    state.leftCols(count) = activations.x.middleCols(first, count);
    if (streams.of_float) float_state.leftCols(count) = activations.float_x.middleCols(first, count);
    for (std::size_t i = 0; i < groups.size(); ++i) {
      visit(groups[i], streams, count, seen[i], [](Eigen::Index, Eigen::Index) {});
      if (groups[i].stage == LinearGroup::Stage::o) end_attention(layer, streams, count);
    }
    if (moves_own) finish_pass(streams.own, layer, state, first, count, activations.x);
    if (streams.of_float && moves_float)
      finish_pass(*streams.of_float, layer, float_state, first, count, activations.float_x);
  }
  return seen;
}

GroupStatistics LayerCalibration::observe(DecoderLayer& layer, Activations& activations) {
  return pass(layer, activations, false, false);
}

GroupStatistics LayerCalibration::pass_through(DecoderLayer& layer, Activations& activations) {
  return pass(layer, activations, !is_last(layer), false);
}

void LayerCalibration::at_once(DecoderLayer& layer, Activations& activations, const Quantize& quantize) {
  const GroupStatistics seen = pass(layer, activations, false, !is_last(layer));
  const std::vector<LinearGroup> groups = linear_groups(config_, layer);
  for (std::size_t i = 0; i < groups.size(); ++i) quantize_wanted(groups[i], seen[i], quantize);
  if (is_last(layer)) return;
  Timer timer{seconds_.forward};
  forward_layer(config_, layer, length_, activations.x, {});
}

void LayerCalibration::by_groups(DecoderLayer& layer, Activations& activations, const Quantize& quantize) {
  const bool follows_float = activations.float_x.size() > 0;
  const std::optional<DecoderLayer> float_layer = follows_float ? std::optional{layer} : std::nullopt;
  const Eigen::Index columns = activations.x.cols();
  Streams streams{{config_, layer, length_, activations.x}, {}};
  if (follows_float) streams.of_float.emplace(config_, *float_layer, length_, activations.float_x);
  for (const LinearGroup& group : linear_groups(config_, layer)) {
    InputStatistics seen;
    visit(group, streams, columns, seen, [&](Eigen::Index begin, Eigen::Index count) {
      const bool is_end = group.stage == LinearGroup::Stage::down && layer.experts.empty();
      if (!is_end || !streams.of_float || is_last(layer)) return;
      Timer timer{seconds_.forward};
      streams.of_float->finish_at_once(begin, count);
    });
    quantize_wanted(group, seen, quantize);
    if (group.stage == LinearGroup::Stage::o) end_attention(layer, streams, columns);
  }
  if (is_last(layer)) return;
  Timer timer{seconds_.forward};
  for_each_chunk(columns, [&](Eigen::Index begin, Eigen::Index count) {
    if (streams.of_float && !layer.experts.empty()) streams.of_float->finish(begin, count);
    streams.own.finish(begin, count);
  });
}

}  // namespace mpk
