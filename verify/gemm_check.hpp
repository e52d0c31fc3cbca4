#pragma once
// Does a kernel's product agree with the exact one, within what its roundings can explain?

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/error_bound.hpp"
#include "kernels/gemm.hpp"
#include "packer/format/quantized_matrix.hpp"
#include "verify/activations.hpp"

namespace mpk {

/// What a layer is multiplied by, and how.
struct LayerArithmetic {
  /// What a Marlin kernel takes a layer of the scheme for, whatever its layout; nullopt: no kernel computes
  /// with such weights.
  std::optional<LayerShape> kernel;
  GemmRoundings roundings;
};
/// `activations`: what the layer's format is for (WeightFormat::activations).
LayerArithmetic arithmetic_of(const Scheme& scheme, DType activations, K k, N n);

/// The product in double precision by plain loops, and what rounding errors are proportional to. (M, N)
/// row-major.
struct Reference {
  std::vector<double> product;    ///< sum_k a w
  std::vector<double> magnitude;  ///< sum_k |a| |w|
};

/// `weights` (K, N). Activations of 8 bits count with the scale of their row. Runs on the CPU.
Reference reference_product(const MatrixF& weights, const KernelActivations& activations, M m);

struct GemmCheck {
  M m;
  double worst =
      0;  ///< largest |output - product| / bound over all outputs: above 1, or not a number, is a failure
  bool passed() const { return worst <= 1.0; }
};

/// `output` (M, N) row-major of type roundings.output. The bound is kernels/error_bound.hpp's: from K, the
/// types and the magnitudes.
GemmCheck check_product(std::span<const std::uint16_t> output, const Reference& reference,
                        const KernelActivations& activations, const GemmRoundings& roundings, K k, N n, M m);

/// The kernel's arithmetic on the CPU, as kernels/gemm.hpp states it: a difference from a floating-point zero
/// point is rounded, with groups each weight is rounded after scaling, one scale per column and a global
/// scale multiply the float32 sum. With activations of 8 bits the sums of a group are scaled (INT8 sums are
/// exact; FP8 ones are float32 here, more than tensor cores keep), and the finished ones by the scale of
/// their row. Without a kernel the weights are summed as they are. (M, N) row-major of type roundings.output.
std::vector<std::uint16_t> emulate_kernel(const QuantizedMatrix& q, const LayerArithmetic& arithmetic,
                                          const KernelActivations& activations, M m);

}  // namespace mpk
