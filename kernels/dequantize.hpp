#pragma once
// The weights as the GEMM decodes them, through the same device code.

#include "kernels/gemm.hpp"

namespace mpk {

/// Device memory, as GemmBuffers says; of `buffers` words, scales, zero_points and global_scale are read.
/// `out` (K, N) row-major of layer.activations' type, rows as they are stored: code times scale exactly,
/// times the global scale in float32, rounded. For every layer that require_gemm accepts.
void dequantize(const LayerShape& layer, const GemmBuffers& buffers, std::uint16_t* out, GpuStream stream);

}  // namespace mpk
