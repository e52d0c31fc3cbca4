#pragma once
// How long the GPU takes to solve one linear layer, statistics and weights being there; beside the CPU's loss
// on the same layer if that is wanted.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "packer/format/units.hpp"

namespace mpk {

struct SolveShape {
  K k;
  N n;
};
struct SolveTimes {
  double factor = 0;  ///< seconds: order, damping, Cholesky
  double solve = 0;   ///< ranges, GPTQ, loss, codes in host memory
  double loss = 0;    ///< relative, on the calibration tokens
};
struct SolveBenchRow {
  SolveShape shape;
  SolveTimes plain;                ///< static act-order, MSE ranges, INT4 in groups of 128: medians of three
  SolveTimes recipe;               ///< signed scales, a corrected target and four sweeps of descent too
  std::optional<double> cpu_loss;  ///< of gptq() with the options of `plain`
};

/// Throws Error{device} without a GPU or its libraries. `compare`: the CPU solves it too, which takes minutes
/// for large shapes.
std::vector<SolveBenchRow> run_solve_bench(const std::vector<SolveShape>& shapes, bool compare,
                                           const std::function<void(const std::string&)>& progress);

}  // namespace mpk
