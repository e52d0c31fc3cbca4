#pragma once
// A floating-point checkpoint tensor as numbers.

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// BF16, F16, F32 or F64 as float32: a row-major (N, K) matrix as (K, N), a vector as (n, 1). Throws
/// Error{unsupported} for other element types and ranks.
MatrixF float_matrix(const TensorView& tensor);

}  // namespace mpk
