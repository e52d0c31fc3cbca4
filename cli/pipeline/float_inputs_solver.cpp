#include "cli/pipeline/float_inputs_solver.hpp"

#include <utility>

#include "cli/pipeline/solve_linear.hpp"
#include "cli/pipeline/statistics_file.hpp"
#include "cli/pipeline/timer.hpp"

namespace mpk {
namespace {

/// What a group reads once its inputs have been divided by `scales`.
void divide_inputs(InputStatistics& seen, const std::vector<float>& scales) {
  const Eigen::Map<const Eigen::ArrayXf> s{scales.data(), std::ssize(scales)};
  seen.hessian.array().colwise() /= s;
  seen.hessian.array().rowwise() /= s.transpose();
  // Row and column may round differently: of an entry and its mirror image the upper one counts.
  seen.hessian.triangularView<Eigen::StrictlyLower>() = seen.hessian.transpose();
}

}  // namespace

FloatInputsSolver::FloatInputsSolver(const SolverInput& input)
    : input_{input}, decoder_{input.model.config, *input.model.weights, Decoder::Parts::layers} {
  const auto wanted = [this](const std::string& module) { return input_.plan.layers.contains(module); };
  if (input.statistics)
    statistics_ = std::make_unique<SavedStatistics>(*input.statistics, decoder_.config(), wanted);
  else
    statistics_ = std::make_unique<FloatModelStatistics>(input.model, input.windows, input.job.seq_len,
                                                         wanted, seconds_.calibration);
}

DecoderLayer FloatInputsSolver::load(std::int64_t index) {
  Timer timer{seconds_.load};
  return decoder_.load_layer(index);
}

RewrittenNorms FloatInputsSolver::solve_layer(std::int64_t index, const Take& take) {
  DecoderLayer layer = load(index);
  GroupStatistics seen = statistics_->of(layer);
  FoldedLayer folded;
  if (input_.job.method->scales_inputs) folded = fold_layer(input_, layer, seen, seconds_);
  const std::vector<LinearGroup> groups = linear_groups(decoder_.config(), layer);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const std::vector<Linear*>& linears = groups[i].linears;
    // Linears that read the same input were all scaled, or none was.
    if (const auto it = folded.linears.find(linears.front()->module);
        it != folded.linears.end() && !it->second.inputs.empty())
      divide_inputs(seen[i], it->second.inputs);
    for (Linear* linear : linears) {
      if (!input_.plan.layers.contains(linear->module)) continue;
      SolvedLinear solved = solve_linear(input_, *linear, &seen[i], seconds_);
      if (const auto it = folded.linears.find(linear->module); it != folded.linears.end())
        solved.folded = it->second;
      take(std::move(solved));
    }
    seen[i] = {};
  }
  return std::move(folded.norms);
}

void FloatInputsSolver::replay_layer(std::int64_t index, const std::vector<SolvedLinear>&,
                                     const RewrittenNorms&) {
  if (!has_state()) return;
  DecoderLayer layer = load(index);
  statistics_->skip(layer);
}

}  // namespace mpk
