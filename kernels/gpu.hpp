#pragma once
// The GPU as the rest of the program sees it: plain C++, host memory in, host memory out, no CUDA types. A
// build without CUDA links the same functions; gpu_status() then says why there is no GPU.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/gemm.hpp"

namespace mpk {

struct GpuStatus {
  bool usable = false;
  std::string name;    ///< "NVIDIA H200"; empty if there is none
  int capability = 0;  ///< 90 for 9.0
  std::string reason;  ///< why not usable
};
const GpuStatus& gpu_status();

/// A packed layer's tensors in host memory, laid out as FORMAT.md "marlin" says; empty where the layer has
/// none.
struct LayerTensors {
  std::span<const std::uint32_t> words = {};
  std::span<const std::byte> scales = {};  ///< (groups, N) of 16 bits, or of 8 (nvfp4, mxfp4)
  std::span<const std::uint32_t> zero_points = {};
  std::span<const std::int32_t> perm = {};
  std::span<const std::uint16_t> bias = {};
  float global_scale = 1.0f;
};

/// Activations of 8 bits in host memory.
struct QuantizedRows {
  std::span<const std::byte> values;  ///< (M, K) row-major, int8 or e4m3
  std::span<const float> scales;      ///< (M)
};

/// One packed linear layer in GPU memory.
class GpuLinear {
 public:
  /// Throws Error{unsupported} with the table of kernels if none matches, Error{bad_input} if a size is
  /// wrong, Error{device} if there is no GPU or it fails.
  GpuLinear(const LayerShape& layer, const LayerTensors& tensors);
  ~GpuLinear();
  GpuLinear(GpuLinear&&) noexcept;
  GpuLinear& operator=(GpuLinear&&) noexcept;

  /// activations (M, K) row-major -> (M, N) row-major, both of layer.activations' type, by the Marlin GEMM.
  /// The output buffer is poisoned with NaN before the launch, so an element that the kernel does not write
  /// shows. `family`: nullopt takes the one that plan_gemm takes.
  std::vector<std::uint16_t> multiply(std::span<const std::uint16_t> activations, M m,
                                      std::optional<GemmFamily> family = std::nullopt) const;
  /// The same for a layer whose activations have 8 bits; the output is of layer.activations' type.
  std::vector<std::uint16_t> multiply(const QuantizedRows& activations, M m,
                                      std::optional<GemmFamily> family = std::nullopt) const;

  /// The weights as the kernels decode them: (K, N) row-major of layer.activations' type, rounded once (u4fz:
  /// first code - zero point, then the product with the scale); rows as they are stored.
  std::vector<std::uint16_t> dequantize() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// What a GEMM must be measured against, from unpacked weights, in double precision with plain loops. Both
/// (M, N) row-major. error_bound.hpp says how far from it a GEMM may be.
struct GpuReference {
  std::vector<double> product;    ///< sum_k a * w
  std::vector<double> magnitude;  ///< sum_k |a| * |w|: what rounding errors are proportional to
};
/// `weights` (K, N) column-major float32 (consecutive k contiguous); `activations` (M, K) row-major of type
/// `type`.
GpuReference gpu_reference(std::span<const float> weights, K k, N n,
                           std::span<const std::uint16_t> activations, M m, Float type = Float::f16);
/// The same of 8-bit activations, with their rows' scales.
GpuReference gpu_reference(std::span<const float> weights, K k, N n, const QuantizedRows& activations, M m,
                           Activation8 type);

}  // namespace mpk
