#pragma once
// The engine on the CPU: float32, the same bits for any number of threads.

#include "cli/pipeline/layer_solver.hpp"
#include "model/decoder.hpp"

namespace mpk {

class CpuSolver final : public LayerSolver {
 public:
  explicit CpuSolver(const SolverInput& input);

  RewrittenNorms solve_layer(std::int64_t index, const Take& take) override;
  void replay_layer(std::int64_t index, const std::vector<SolvedLinear>& linears,
                    const RewrittenNorms& norms) override;
  bool has_state() const override { return input_.job.method->needs_hessian; }
  std::optional<double> residual_error() const override;
  std::string name() const override { return "cpu"; }
  SolverSeconds seconds() const override { return seconds_; }

 private:
  bool is_wanted(const std::string& module) const { return input_.plan.layers.contains(module); }
  DecoderLayer load(std::int64_t index);

  SolverInput input_;
  Decoder decoder_;
  Activations activations_;  ///< before the layer whose turn it is
  bool are_behind_ = false;  ///< all layers: they were left before the last one
  SolverSeconds seconds_;
};

}  // namespace mpk
