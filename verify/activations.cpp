#include "verify/activations.hpp"

#include <cmath>
#include <numbers>

#include "packer/format/float16.hpp"

namespace mpk {
namespace {

/// splitmix64: one multiply-xor round per draw, no state to seed wrongly, the same everywhere
/// (std::normal_distribution is not).
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

double uniform(std::uint64_t bits) {
  return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53;
}

}  // namespace

std::vector<std::uint16_t> outlier_activations(M m, K k, std::uint64_t seed) {
  constexpr double kDeviation = 0.5, kOutlier = 40.0;
  std::vector<std::uint16_t> values(static_cast<std::size_t>(m.value * k.value));
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < m.value; ++row)
    for (std::int64_t col = 0; col < k.value; ++col) {
      const std::uint64_t draw = mix(seed ^ mix(static_cast<std::uint64_t>(row * k.value + col)));
      const double normal =  // Box and Muller
          std::sqrt(-2.0 * std::log(uniform(draw))) * std::cos(2.0 * std::numbers::pi * uniform(mix(draw)));
      const bool outlier = mix(seed + 1 + static_cast<std::uint64_t>(col)) % 64 == 0;
      values[static_cast<std::size_t>(row * k.value + col)] =
          float_to_f16(static_cast<float>(normal * kDeviation * (outlier ? kOutlier : 1.0)));
    }
  return values;
}

}  // namespace mpk
