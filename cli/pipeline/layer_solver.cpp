#include "cli/pipeline/layer_solver.hpp"

#include "cli/pipeline/cpu_solver.hpp"
#include "cli/pipeline/float_inputs_solver.hpp"

namespace mpk {

std::unique_ptr<LayerSolver> make_layer_solver(const SolverInput& input) {
  if (input.job.float_inputs && input.job.method->needs_hessian)
    return std::make_unique<FloatInputsSolver>(input);
  return std::make_unique<CpuSolver>(input);
}

}  // namespace mpk
