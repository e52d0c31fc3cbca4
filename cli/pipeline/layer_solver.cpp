#include "cli/pipeline/layer_solver.hpp"

#include <fmt/format.h>

#include "cli/pipeline/cpu_solver.hpp"
#include "cli/pipeline/float_inputs_solver.hpp"
#include "cli/pipeline/gpu_solver.hpp"
#include "packer/format/error.hpp"

namespace mpk {

std::unique_ptr<LayerSolver> make_layer_solver(const SolverInput& input, std::string& why_not) {
  // A method without data is over before a GPU has been set up.
  if (input.job.device != Device::cpu && input.job.method->needs_hessian) {
    why_not = gpu_solver_refusal(input.job, input.model);
    if (why_not.empty()) return make_gpu_solver(input);
    if (input.job.device == Device::cuda)
      throw Error{ErrorKind::unsupported,
                  fmt::format("--device cuda cannot solve this: {}; --device cpu can", why_not)};
  }
  if (input.job.float_inputs && input.job.method->needs_hessian)
    return std::make_unique<FloatInputsSolver>(input);
  return std::make_unique<CpuSolver>(input);
}

}  // namespace mpk
