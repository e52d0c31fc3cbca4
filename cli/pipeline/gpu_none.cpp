// A build without CUDA: the same functions, and why they cannot run.

#include "cli/pipeline/engine_rates.hpp"
#include "cli/pipeline/gpu_evaluate.hpp"
#include "cli/pipeline/gpu_solver.hpp"
#include "cli/pipeline/solve_bench.hpp"
#include "packer/format/error.hpp"

namespace mpk {

std::string gpu_solver_refusal(const QuantizeJob&, const OpenModel&) {
  return "built without CUDA";
}
std::unique_ptr<LayerSolver> make_gpu_solver(const SolverInput&) {
  throw Error{ErrorKind::device, "built without CUDA"};
}
std::vector<SolveBenchRow> run_solve_bench(const std::vector<SolveShape>&, bool,
                                           const std::function<void(const std::string&)>&) {
  throw Error{ErrorKind::device, "built without CUDA"};
}

std::string gpu_evaluation_refusal(const DecoderConfig&) {
  return "built without CUDA";
}
Comparison gpu_evaluate(const OpenModel&, const OpenModel*, std::span<const std::int32_t>, std::int64_t,
                        GpuCompute, const std::function<void(std::int64_t, std::int64_t)>&) {
  throw Error{ErrorKind::device, "built without CUDA"};
}

std::unique_ptr<EngineRates> make_gpu_rates(const QuantizeJob&, GpuCompute) {
  throw Error{ErrorKind::device, "built without CUDA"};
}

}  // namespace mpk
