#pragma once
// Quantized weights as plain floats, the way a checkpoint stores a linear layer.

#include <cstddef>
#include <span>

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// What the field's tools dequantize to: the scales' dtype if that is F16, BF16 or F32, the model's own dtype
/// where scales have 8 bits.
DType float_dtype_of(const Scheme& scheme, DType model_dtype = DType::BF16);

/// Writes the columns of `q` as rows of the whole (N, K) row-major matrix `out`, beginning at row
/// q.first_column: the numbers of dequantize(), each rounded once, to nearest even. `total` is the whole
/// matrix's N, `dtype` F32, F16 or BF16. Different columns may be written by different threads. A weight
/// that is too large becomes infinite; E4M3 codes are no NaN, which no reader lets pass. Throws
/// Error{unsupported} for another dtype, Error{bad_input} unless `out` has the size of the whole matrix.
void write_float_weights(const QuantizedMatrix& q, DType dtype, N total, std::span<std::byte> out);

/// The same numbers as the columns of the (K, N) row-major matrix `out`: how stacks of experts are kept.
void write_float_weights_transposed(const QuantizedMatrix& q, DType dtype, N total, std::span<std::byte> out);

}  // namespace mpk
