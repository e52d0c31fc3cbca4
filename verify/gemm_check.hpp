#pragma once
// Does a kernel's product agree with the exact one, within what its roundings can explain?

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// The product in double precision by plain loops, and what rounding errors are proportional to. (M, N)
/// row-major.
struct Reference {
  std::vector<double> product;    ///< sum_k a w
  std::vector<double> magnitude;  ///< sum_k |a| |w|
};

/// `weights` (K, N); `activations` (M, K) row-major float16. Runs on the CPU.
Reference reference_product(const MatrixF& weights, std::span<const std::uint16_t> activations, M m);

struct GemmCheck {
  M m;
  double worst =
      0;  ///< largest |output - product| / bound over all outputs: above 1, or not a number, is a failure
  bool passed() const { return worst <= 1.0; }
};

/// `output` (M, N) row-major float16. The bound is kernels/error_bound.hpp's: from K, the types and the
/// magnitudes.
GemmCheck check_product(std::span<const std::uint16_t> output, const Reference& reference,
                        std::span<const std::uint16_t> activations, const Scheme& scheme, K k, N n, M m);

/// The kernel's arithmetic on the CPU, as kernels/gemm.hpp states it: with groups each weight is rounded to
/// float16 after scaling, one scale per column multiplies the float32 sum. Schemes whose scales are not F16
/// have no kernel here; their weights are summed as they are. (M, N) row-major float16.
std::vector<std::uint16_t> emulate_kernel(const QuantizedMatrix& q,
                                          std::span<const std::uint16_t> activations, M m);

}  // namespace mpk
