#pragma once
// One linear on the CPU, once its inputs have been summed up.

#include "cli/pipeline/layer_solver.hpp"

namespace mpk {

/// Runs the job's method on a planned linear, whose weight becomes the quantized one. `seen` is null for
/// methods that need no data; if it knows the error of the inputs, the target is corrected for it. Errors
/// name the module.
SolvedLinear solve_linear(const SolverInput& input, Linear& linear, const InputStatistics* seen,
                          SolverSeconds& seconds);

/// AWQ: finds and folds the scales of the layer's planned linears.
FoldedLayer fold_layer(const SolverInput& input, DecoderLayer& layer, const GroupStatistics& seen,
                       SolverSeconds& seconds);

}  // namespace mpk
