#pragma once
// The engine on the GPU: decoder layers in 16-bit floats with float32 sums, one of them in GPU memory at a
// time and the next on its way there; Hessians, GPTQ, corrected targets and descent where the activations
// are.

#include <memory>
#include <string>

#include "cli/pipeline/layer_solver.hpp"

namespace mpk {

/// Why this job for this model cannot be solved on this machine's GPU; empty if it can.
std::string gpu_solver_refusal(const QuantizeJob& job, const OpenModel& model);

/// Throws Error{device} if memory is short: what is needed and how to ask for less.
std::unique_ptr<LayerSolver> make_gpu_solver(const SolverInput& input);

}  // namespace mpk
