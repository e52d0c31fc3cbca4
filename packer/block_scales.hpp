#pragma once
// The scales of NVFP4 as Marlin kernels read them: E5M3 bytes, no sign, 5 exponent bits (bias 15), 3 mantissa
// bits. That is a float16 without its sign and its low 7 bits. Stored is 2^7 times the scale.

#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>

#include "packer/format/float_bits.hpp"
#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// The byte for an E4M3 scale; nullopt for negative ones, -0 included, and for what E4M3 does not have.
constexpr std::optional<std::uint8_t> kernel_byte(float scale) {
  if ((std::bit_cast<std::uint32_t>(scale) >> 31) != 0 || !exact_e4m3(scale)) return std::nullopt;
  return static_cast<std::uint8_t>(float_to_f16(scale * 0x1p7f) >> 7);  // E4M3 has no bits below
}

/// Its inverse; nullopt for bytes that are no E4M3 scale.
constexpr std::optional<float> scale_of_kernel_byte(std::uint8_t byte) {
  const float scale = f16_to_float(static_cast<std::uint16_t>(byte << 7)) * 0x1p-7f;
  return exact_e4m3(scale) ? std::optional{scale} : std::nullopt;
}

/// Kernels with BF16 activations read bytes below 0x80, other than 0, wrongly: scales below this.
inline constexpr float kSmallestScaleBf16 = 0x1p-6f;

/// Multiplies all block scales of an NVFP4 matrix by the smallest power of two that leaves none of them below
/// kSmallestScaleBf16, and takes the same off the global scale: the weights stay the same. Returns the
/// factor, at least 1. Needs the whole matrix. Throws Error{unsupported} if a scale would pass 448.
float lift_block_scales(QuantizedMatrix&);

}  // namespace mpk
