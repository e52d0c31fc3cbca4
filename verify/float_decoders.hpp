#pragma once
// The second decoder's rows for formats of floating-point codes: from the element (k, n) to its bits by the
// formulas of FORMAT.md, values included. No code of packer/ beyond the data types.

#include "packer/format/quantized_matrix.hpp"
#include "packer/parts.hpp"

namespace mpk {

/// Codes that are bytes and float scales, under weight_scale or weight_scale_inv, in any of their shapes.
QuantizedMatrix decode_fp8(const PartViews&, const Scheme&, K, N);
QuantizedMatrix decode_ct_nvfp4(const PartViews&, const Scheme&, K, N);
QuantizedMatrix decode_modelopt_nvfp4(const PartViews&, const Scheme&, K, N);
QuantizedMatrix decode_mxfp4(const PartViews&, const Scheme&, K, N);
QuantizedMatrix decode_mxfp8(const PartViews&, const Scheme&, K, N);
QuantizedMatrix decode_gpt_oss(const PartViews&, const Scheme&, K, N);

}  // namespace mpk
