#pragma once
// Second decoders of the Marlin layouts: from the element (k, n) to its bits, one at a time, by the drawings
// of the tensor core's fragments in FORMAT.md. They share no code with the packer. Each throws
// Error{mismatch} for a tensor that is missing or has another size.

#include "packer/format/quantized_matrix.hpp"
#include "packer/parts.hpp"

namespace mpk {

QuantizedMatrix decode_marlin(const PartViews&, const Scheme&, K, N);
QuantizedMatrix decode_marlin_original(const PartViews&, const Scheme&, K, N);
QuantizedMatrix decode_marlin_a8(const PartViews&, const Scheme&, K, N);
QuantizedMatrix decode_marlin_24(const PartViews&, const Scheme&, K, N);

}  // namespace mpk
