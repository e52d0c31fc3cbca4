#pragma once
// The GPU as the rest of the program sees it: plain C++, host memory in, host memory out, no CUDA types. A
// build without CUDA links the same functions; gpu_status() then says why there is no GPU.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "packer/format/scalar_type.hpp"
#include "packer/format/units.hpp"

namespace mpk {

struct GpuStatus {
  bool usable = false;
  std::string name;    ///< "NVIDIA H200"; empty if there is none
  int capability = 0;  ///< 90 for 9.0
  std::string reason;  ///< why not usable
};
const GpuStatus& gpu_status();

/// One packed linear layer in GPU memory, laid out as FORMAT.md "marlin" says (kMarlinU4, kMarlinU8).
class GpuLinear {
 public:
  /// Throws Error{unsupported} with the table of kernels if none matches, Error{bad_input} if a size is
  /// wrong, Error{device} if there is no GPU or it fails.
  GpuLinear(ScalarType type, std::optional<GroupSize> group_size, K k, N n,
            std::span<const std::uint32_t> words, std::span<const std::uint16_t> scales);
  ~GpuLinear();
  GpuLinear(GpuLinear&&) noexcept;
  GpuLinear& operator=(GpuLinear&&) noexcept;

  /// activations (M, K) row-major float16 -> (M, N) row-major float16, by the Marlin GEMM. The output buffer
  /// is poisoned with NaN before the launch, so an element that the kernel does not write shows.
  std::vector<std::uint16_t> multiply(std::span<const std::uint16_t> activations, M m) const;

  /// The weights as the kernels decode them: (K, N) row-major float16, (code - bias) * scale rounded once.
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
/// `weights` (K, N) column-major float32 (consecutive k contiguous); `activations` (M, K) row-major float16.
GpuReference gpu_reference(std::span<const float> weights, K k, N n,
                           std::span<const std::uint16_t> activations, M m);

}  // namespace mpk
