#include "cli/pipeline/cpu_solver.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "cli/pipeline/solve_linear.hpp"
#include "cli/pipeline/timer.hpp"

namespace mpk {

CpuSolver::CpuSolver(const SolverInput& input)
    : input_{input}, decoder_{input.model.config, *input.model.weights, Decoder::Parts::layers} {
  if (!has_state()) return;
  Timer timer{seconds_.calibration.forward};
  // Embeddings are large and needed once.
  activations_.x =
      Decoder{input.model.config, *input.model.weights, Decoder::Parts::embeddings}.embed(input.windows);
  if (input.job.corrects_targets()) activations_.float_x = activations_.x;
}

DecoderLayer CpuSolver::load(std::int64_t index) {
  Timer timer{seconds_.load};
  return decoder_.load_layer(index);
}

RewrittenNorms CpuSolver::solve_layer(std::int64_t index, const Take& take) {
  const QuantizeJob& job = input_.job;
  DecoderLayer layer = load(index);
  are_behind_ = index + 1 == input_.model.config.num_layers;
  if (!job.method->needs_hessian) {
    for (Linear* linear : layer.linears())
      if (is_wanted(linear->module)) take(solve_linear(input_, *linear, nullptr, seconds_));
    return {};
  }
  LayerCalibration calibration{input_.model.config, job.seq_len,
                               [&](const std::string& module) { return is_wanted(module); },
                               seconds_.calibration};
  FoldedLayer folded;
  if (job.method->scales_inputs)
    folded = fold_layer(input_, layer, calibration.observe(layer, activations_), seconds_);
  const auto take_quantized = [&](Linear& linear, const InputStatistics& seen) {
    SolvedLinear solved = solve_linear(input_, linear, &seen, seconds_);
    if (const auto it = folded.linears.find(linear.module); it != folded.linears.end())
      solved.folded = it->second;
    take(std::move(solved));
  };
  if (job.true_sequential)
    calibration.by_groups(layer, activations_, take_quantized);
  else
    calibration.at_once(layer, activations_, take_quantized);
  return std::move(folded.norms);
}

void CpuSolver::replay_layer(std::int64_t index, const std::vector<SolvedLinear>& linears,
                             const RewrittenNorms& norms) {
  are_behind_ = index + 1 == input_.model.config.num_layers;
  if (!has_state() || are_behind_) return;
  DecoderLayer layer = load(index);
  Timer timer{seconds_.calibration.forward};
  FoldedLayer folded{{}, norms};
  for (const SolvedLinear& solved : linears)
    if (!solved.folded.inputs.empty() || !solved.folded.outputs.empty())
      folded.linears[solved.module] = solved.folded;
  fold_again(layer, input_.model.config, folded);
  if (activations_.float_x.size() > 0) decoder_.forward(layer, input_.job.seq_len, activations_.float_x);
  for (Linear* linear : layer.linears())
    if (const auto it = std::ranges::find(linears, linear->module, &SolvedLinear::module);
        it != linears.end())
      linear->weight = dequantize(it->result.matrix);
  decoder_.forward(layer, input_.job.seq_len, activations_.x);
}

std::optional<double> CpuSolver::residual_error() const {
  const MatrixF &x = activations_.x, &float_x = activations_.float_x;
  if (float_x.size() == 0 || are_behind_) return std::nullopt;
  Eigen::VectorXd error(x.cols()),
      total(x.cols());  // of each token: summed in one order by any number of threads
#pragma omp parallel for schedule(static)
  for (Eigen::Index i = 0; i < x.cols(); ++i) {
    error(i) = static_cast<double>((x.col(i) - float_x.col(i)).squaredNorm());
    total(i) = static_cast<double>(float_x.col(i).squaredNorm());
  }
  return total.sum() > 0 ? std::sqrt(error.sum() / total.sum()) : 0;
}

}  // namespace mpk
