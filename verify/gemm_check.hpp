#pragma once
// Does a kernel's product agree with the exact one, within what its roundings can explain?

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/gemm.hpp"
#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// What a Marlin kernel takes a layer of this scheme for, whatever its layout; nullopt: no kernel computes
/// with such weights.
std::optional<LayerShape> kernel_layer(const Scheme& scheme, K k, N n);
/// The type that the layer multiplies with, and that its outputs have; f16 where nothing says bf16.
Float activation_type(const Scheme& scheme);

/// The product in double precision by plain loops, and what rounding errors are proportional to. (M, N)
/// row-major.
struct Reference {
  std::vector<double> product;    ///< sum_k a w
  std::vector<double> magnitude;  ///< sum_k |a| |w|
};

/// `weights` (K, N); `activations` (M, K) row-major of type `type`. Runs on the CPU.
Reference reference_product(const MatrixF& weights, std::span<const std::uint16_t> activations, M m,
                            Float type = Float::f16);

struct GemmCheck {
  M m;
  double worst =
      0;  ///< largest |output - product| / bound over all outputs: above 1, or not a number, is a failure
  bool passed() const { return worst <= 1.0; }
};

/// `output` (M, N) and `activations` (M, K) row-major of the scheme's activation_type. The bound is
/// kernels/error_bound.hpp's: from K, the types and the magnitudes.
GemmCheck check_product(std::span<const std::uint16_t> output, const Reference& reference,
                        std::span<const std::uint16_t> activations, const Scheme& scheme, K k, N n, M m);

/// The kernel's arithmetic on the CPU, as kernels/gemm.hpp states it: a difference from a floating-point zero
/// point is rounded, with groups each weight is rounded after scaling, one scale per column and a global
/// scale multiply the float32 sum. Schemes without kernel_layer have their weights summed as they are. (M, N)
/// row-major of the scheme's activation_type.
std::vector<std::uint16_t> emulate_kernel(const QuantizedMatrix& q,
                                          std::span<const std::uint16_t> activations, M m);

}  // namespace mpk
