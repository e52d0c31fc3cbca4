#include "verify/activations.hpp"

#include <cmath>
#include <numbers>

#include "packer/format/float16.hpp"
#include "verify/random_bits.hpp"

namespace mpk {

std::uint16_t to_bits(float value, Float type) {
  return type == Float::f16 ? float_to_f16(value) : float_to_bf16(value);
}
float to_float(std::uint16_t bits, Float type) {
  return type == Float::f16 ? f16_to_float(bits) : bf16_to_float(bits);
}

std::vector<std::uint16_t> outlier_activations(M m, K k, std::uint64_t seed, Float type) {
  constexpr double kDeviation = 0.5, kOutlier = 40.0;
  std::vector<std::uint16_t> values(static_cast<std::size_t>(m.value * k.value));
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < m.value; ++row)
    for (std::int64_t col = 0; col < k.value; ++col) {
      const std::uint64_t draw =
          random_bits(seed ^ random_bits(static_cast<std::uint64_t>(row * k.value + col)));
      const double normal =  // Box and Muller
          std::sqrt(-2.0 * std::log(random_unit(draw))) *
          std::cos(2.0 * std::numbers::pi * random_unit(random_bits(draw)));
      const bool outlier = random_bits(seed + 1 + static_cast<std::uint64_t>(col)) % 64 == 0;
      values[static_cast<std::size_t>(row * k.value + col)] =
          to_bits(static_cast<float>(normal * kDeviation * (outlier ? kOutlier : 1.0)), type);
    }
  return values;
}

}  // namespace mpk
