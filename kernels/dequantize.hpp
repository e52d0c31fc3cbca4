#pragma once
// The weights as the GEMM decodes them, through the same device code.

#include "kernels/gemm.hpp"

namespace mpk {

/// Device memory, 16-byte aligned. `out` (K, N) row-major float16: (code - bias) * scale, rounded once. For
/// every layer that require_gemm accepts.
void dequantize(const LayerShape& layer, const std::uint32_t* words, const std::uint16_t* scales,
                std::uint16_t* out, GpuStream stream);

}  // namespace mpk
