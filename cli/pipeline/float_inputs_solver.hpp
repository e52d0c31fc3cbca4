#pragma once
// The engine for job.float_inputs: every layer is solved for what it reads in the float model, so that the
// layers do not depend on each other and the statistics may come from a file.

#include <memory>

#include "cli/pipeline/layer_solver.hpp"
#include "cli/pipeline/statistics_source.hpp"
#include "model/decoder.hpp"

namespace mpk {

class FloatInputsSolver final : public LayerSolver {
 public:
  explicit FloatInputsSolver(const SolverInput& input);

  RewrittenNorms solve_layer(std::int64_t index, const Take& take) override;
  void replay_layer(std::int64_t index, const std::vector<SolvedLinear>& linears,
                    const RewrittenNorms& norms) override;
  bool has_state() const override { return statistics_->has_state(); }
  std::string name() const override { return "cpu"; }
  SolverSeconds seconds() const override { return seconds_; }

 private:
  DecoderLayer load(std::int64_t index);

  SolverInput input_;
  Decoder decoder_;
  SolverSeconds seconds_;
  std::unique_ptr<StatisticsSource> statistics_;
};

}  // namespace mpk
