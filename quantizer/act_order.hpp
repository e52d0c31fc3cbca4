#pragma once
// In which order the inputs of a layer are quantized: the later an input comes, the more of the others' error
// it has to carry, so the inputs that matter most go first.

#include <vector>

#include "quantizer/methods.hpp"

namespace mpk {

/// order[position] = storage row. A perm in the house sense: a gather.
std::vector<Eigen::Index> solve_order(const MatrixF& hessian, ActOrder act_order);

}  // namespace mpk
