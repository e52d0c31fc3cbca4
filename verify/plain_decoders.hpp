#pragma once
// Second decoders of the integer formats that no kernel reads as they are: from the element (k, n) to its
// bits, one at a time, as the sections of FORMAT.md put it. They share no code with the packer. Each throws
// Error{mismatch} for a tensor that is missing or has another size.

#include "packer/format/quantized_matrix.hpp"
#include "packer/parts.hpp"

namespace mpk {

QuantizedMatrix plain_awq(const PartViews&, const Scheme&, K, N);
QuantizedMatrix plain_awq_gemv(const PartViews&, const Scheme&, K, N);
QuantizedMatrix plain_awq_gemv_fast(const PartViews&, const Scheme&, K, N);
QuantizedMatrix plain_ct_pack_quantized(const PartViews&, const Scheme&, K, N);
QuantizedMatrix plain_ct_int_quantized(const PartViews&, const Scheme&, K, N);

}  // namespace mpk
