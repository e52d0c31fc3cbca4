#pragma once
// What a GEMM is measured against: float64, plain loops, one thread per output. For checking only; shares
// nothing with the kernels it checks.

#include <cstddef>
#include <cstdint>

#include "kernels/gemm.hpp"

namespace mpk {

/// Device memory. `weights` (K, N) column-major float32, `activations` (M, K) row-major of type `type`, the
/// rest (M, N) row-major: sum_k a * w and sum_k |a| * |w|.
void reference(const float* weights, K k, N n, const std::uint16_t* activations, Float type, M m,
               double* product, double* magnitude, GpuStream stream);
/// The same of 8-bit activations; both sums times `row_scales` (M).
void reference(const float* weights, K k, N n, const std::byte* activations, Activation8 type,
               const float* row_scales, M m, double* product, double* magnitude, GpuStream stream);

}  // namespace mpk
