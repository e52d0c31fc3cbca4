#include "cli/pipeline/solve_linear.hpp"

#include <optional>
#include <utility>

#include "cli/pipeline/timer.hpp"
#include "packer/format/error.hpp"
#include "quantizer/target.hpp"
#include "verify/weight_error.hpp"

namespace mpk {
namespace {

QuantizedLinear run_method(const QuantizeJob& job, const MatrixF& weight, const InputStatistics* seen,
                           const QuantizerOptions& options) {
  if (!seen) return job.method->run({weight, nullptr}, options);
  if (!job.corrects_targets()) return job.method->run({weight, &seen->hessian}, options);
  const MatrixF target =
      corrected_target(weight, seen->hessian, seen->error, job.target_correction, options.damp);
  return job.method->run({target, &seen->hessian}, options);
}

}  // namespace

SolvedLinear solve_linear(const SolverInput& input, Linear& linear, const InputStatistics* seen,
                          SolverSeconds& seconds) {
  return within("module " + linear.module, [&] {
    Timer timer{seconds.solve};
    QuantizerOptions options = input.job.options;
    options.scheme = input.plan.layers.at(linear.module).scheme;
    SolvedLinear solved{linear.module, run_method(input.job, linear.weight, seen, options)};
    MatrixF decoded = dequantize(solved.result.matrix);
    solved.weight_error = weight_error(linear.weight, decoded);
    linear.weight = std::move(decoded);
    if (seen && seen->routed_tokens) solved.expert_tokens = {*seen->routed_tokens, seen->tokens};
    return solved;
  });
}

FoldedLayer fold_layer(const SolverInput& input, DecoderLayer& layer, const GroupStatistics& seen,
                       SolverSeconds& seconds) {
  Timer timer{seconds.solve};
  return fold_awq_scales(
      layer, input.model.config, seen,
      [&](const std::string& module) {
        const auto it = input.plan.layers.find(module);
        return it == input.plan.layers.end() ? std::nullopt : std::optional{it->second.scheme};
      },
      [&](const std::string& name) { return input.model.checkpoint.tensor(name).dtype; }, input.job.options);
}

}  // namespace mpk
