#pragma once
// How far a quantized layer is from the floats it came from.

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// |W - W_hat|_F / |W|_F, summed in double in a fixed order: the same bits on any number of threads.
double weight_error(const MatrixF& weight, const MatrixF& decoded);

/// |(W - W_hat)^T X|_F / |W^T X|_F for inputs X (K, M).
double output_error(const MatrixF& weight, const MatrixF& decoded, const MatrixF& inputs);

}  // namespace mpk
