#include "cli/pipeline/layer_solver.hpp"

#include "cli/pipeline/cpu_solver.hpp"

namespace mpk {

std::unique_ptr<LayerSolver> make_layer_solver(const SolverInput& input) {
  return std::make_unique<CpuSolver>(input);
}

}  // namespace mpk
