#pragma once
// The engine of quantize: it brings one decoder layer after another through calibration and solving. Who
// keeps the results is not its business.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/pipeline/fold_scales.hpp"
#include "cli/pipeline/layer_calibration.hpp"
#include "cli/pipeline/open_model.hpp"
#include "cli/pipeline/quantize_job.hpp"
#include "cli/pipeline/source_plan.hpp"
#include "quantizer/methods.hpp"

namespace mpk {

class StatisticsFile;

struct SolvedLinear {
  std::string module;
  QuantizedLinear result;
  double weight_error = 0;  ///< |W - W_hat|_F / |W|_F of what was quantized: after folding, before correction
  FoldedScales folded = {};
  std::optional<ExpertTokens> expert_tokens = {};
};

/// The weights of norms that folding changed, by tensor name; exact in the tensor's dtype.
using RewrittenNorms = std::map<std::string, Eigen::VectorXf>;

struct SolverSeconds {
  double load = 0, solve = 0;
  CalibrationSeconds calibration = {};
};

class LayerSolver {
 public:
  virtual ~LayerSolver() = default;

  using Take = std::function<void(SolvedLinear)>;
  /// Solves the planned linears of layer `index` (0, 1, .. in order); `take` gets each as soon as it is
  /// solved, in the order of the forward pass, and may keep it. Afterwards the activations stand behind the
  /// layer. Errors name the module.
  virtual RewrittenNorms solve_layer(std::int64_t index, const Take& take) = 0;

  /// Instead of solve_layer: what came of the layer in an earlier run. Afterwards the activations stand
  /// behind the layer, to the bit as if it had been solved. Of `linears` the weight_error and the losses are
  /// unset.
  virtual void replay_layer(std::int64_t index, const std::vector<SolvedLinear>& linears,
                            const RewrittenNorms& norms) = 0;
  /// replay_layer does something: it wants to know what the layers were.
  virtual bool has_state() const = 0;

  /// |x - x_float|_F / |x_float|_F of the activations where they stand now, if the float model's are carried
  /// along and the last layer is not behind them.
  virtual std::optional<double> residual_error() const { return std::nullopt; }

  /// What its bits depend on, apart from the job: "cpu", or a GPU's name and what it multiplies. A run
  /// that was begun with another is not continued.
  virtual std::string name() const = 0;
  virtual SolverSeconds seconds() const = 0;
  /// The most GPU memory it held in buffers; 0 on the CPU.
  virtual std::uint64_t peak_gpu_bytes() const { return 0; }
};

/// All must outlive the solver.
struct SolverInput {
  const QuantizeJob& job;
  const OpenModel& model;
  const SourcePlan& plan;                 ///< the schemes of the linears
  std::span<const std::int32_t> windows;  ///< calibration tokens, job.seq_len each; empty for methods without
  const StatisticsFile* statistics = nullptr;  ///< if the job has some
};

/// The engine that job.device asks for: the GPU's, if `automatic` and it can do the job, with `why_not`
/// saying why if it cannot. Throws Error{unsupported} if the GPU was demanded and cannot.
std::unique_ptr<LayerSolver> make_layer_solver(const SolverInput& input, std::string& why_not);

}  // namespace mpk
