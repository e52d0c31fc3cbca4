// A build without CUDA: the same functions, and why there is no such engine.

#include "cli/pipeline/gpu_solver.hpp"
#include "packer/format/error.hpp"

namespace mpk {

std::string gpu_solver_refusal(const SolverInput&) {
  return "built without CUDA";
}
std::unique_ptr<LayerSolver> make_gpu_solver(const SolverInput& input) {
  throw Error{ErrorKind::device, gpu_solver_refusal(input)};
}

}  // namespace mpk
