#include "cli/pipeline/cpu_solver.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "cli/pipeline/timer.hpp"
#include "packer/format/error.hpp"
#include "quantizer/target.hpp"
#include "verify/weight_error.hpp"

namespace mpk {

CpuSolver::CpuSolver(const SolverInput& input)
    : input_{input}, decoder_{input.model.config, *input.model.weights} {
  if (!input.job.method->needs_hessian) return;
  Timer timer{seconds_.calibration.forward};
  activations_.x = decoder_.embed(input.windows);
  if (input.job.corrects_targets()) activations_.float_x = activations_.x;
}

DecoderLayer CpuSolver::load(std::int64_t index) {
  Timer timer{seconds_.load};
  return decoder_.load_layer(index);
}

RewrittenNorms CpuSolver::solve_layer(std::int64_t index, const Take& take) {
  const QuantizeJob& job = input_.job;
  DecoderLayer layer = load(index);
  if (!job.method->needs_hessian) {
    for (Linear* linear : layer.linears())
      if (is_wanted(linear->module)) take(quantize(*linear, nullptr));
    return {};
  }
  LayerCalibration calibration{input_.model.config, job.seq_len,
                               [&](const std::string& module) { return is_wanted(module); },
                               seconds_.calibration};
  FoldedLayer folded;
  if (job.method->scales_inputs) folded = fold(layer, calibration);
  const auto take_quantized = [&](Linear& linear, const InputStatistics& seen) {
    SolvedLinear solved = quantize(linear, &seen);
    if (const auto it = folded.linears.find(linear.module); it != folded.linears.end())
      solved.folded = it->second;
    if (seen.routed_tokens) solved.expert_tokens = {*seen.routed_tokens, seen.tokens};
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
  if (!has_state() || index + 1 == input_.model.config.num_layers) return;
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

FoldedLayer CpuSolver::fold(DecoderLayer& layer, LayerCalibration& calibration) {
  const GroupStatistics seen = calibration.observe(layer, activations_);
  Timer timer{seconds_.solve};
  return fold_awq_scales(
      layer, input_.model.config, seen,
      [&](const std::string& module) {
        const auto it = input_.plan.layers.find(module);
        return it == input_.plan.layers.end() ? std::nullopt : std::optional{it->second.scheme};
      },
      [&](const std::string& name) { return input_.model.checkpoint.tensor(name).dtype; },
      input_.job.options);
}

QuantizedLinear CpuSolver::solve(const Linear& linear, const InputStatistics* seen,
                                 const QuantizerOptions& options) {
  const QuantizeJob& job = input_.job;
  Timer timer{seconds_.solve};
  if (!seen) return job.method->run({linear.weight, nullptr}, options);
  if (!job.corrects_targets()) return job.method->run({linear.weight, &seen->hessian}, options);
  const MatrixF target =
      corrected_target(linear.weight, seen->hessian, seen->error, job.target_correction, options.damp);
  return job.method->run({target, &seen->hessian}, options);
}

SolvedLinear CpuSolver::quantize(Linear& linear, const InputStatistics* seen) {
  return within("module " + linear.module, [&] {
    QuantizerOptions options = input_.job.options;
    options.scheme = input_.plan.layers.at(linear.module).scheme;
    SolvedLinear solved{linear.module, solve(linear, seen, options)};
    MatrixF decoded = dequantize(solved.result.matrix);
    solved.weight_error = weight_error(linear.weight, decoded);
    linear.weight = std::move(decoded);
    return solved;
  });
}

}  // namespace mpk
