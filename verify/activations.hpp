#pragma once
// Activations to try a kernel on: random, with the outlier channels that real decoders have.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/weight.hpp"
#include "packer/format/units.hpp"

namespace mpk {

/// To nearest even, and back.
std::uint16_t to_bits(float value, Float type);
float to_float(std::uint16_t bits, Float type);

/// (M, K) row-major, as a kernel reads them and as numbers.
struct KernelActivations {
  std::vector<float> values;          ///< what the bits stand for, without the scale of the row
  std::vector<std::uint16_t> halves;  ///< activations of 16 bits
  std::vector<std::byte> bytes;       ///< of 8 bits: int8 or e4m3
  std::vector<float> row_scales;      ///< (M), of 8 bits

  float row_scale(std::int64_t row) const {
    return row_scales.empty() ? 1.0f : row_scales[static_cast<std::size_t>(row)];
  }
};

/// Normal values of standard deviation 0.5; about one channel in 64 is 40 times larger. The same seed gives
/// the same bits everywhere. Of 16 bits: rounded to `type`. Of 8 bits: `type`, then divided by the scale of
/// the row, which takes its largest magnitude to 127 (int8) or 448 (e4m3), and rounded to nearest even.
KernelActivations outlier_activations(M m, K k, std::uint64_t seed, Float type,
                                      std::optional<Activation8> quantized = std::nullopt);

/// Whole numbers of at most kExactFp8 in magnitude as e4m3, which tensor cores sum exactly; scales of the
/// rows around 2^-5.
KernelActivations whole_fp8_activations(M m, K k, std::uint64_t seed);

}  // namespace mpk
