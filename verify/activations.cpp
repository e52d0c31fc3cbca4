#include "verify/activations.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "kernels/error_bound.hpp"
#include "packer/format/float16.hpp"
#include "packer/format/float8.hpp"
#include "verify/random_bits.hpp"

namespace mpk {
namespace {

constexpr float largest(Activation8 type) {
  return type == Activation8::int8 ? 127.0f : 448.0f;
}

/// To nearest even, magnitudes beyond the largest to it.
std::byte round_to(Activation8 type, float value) {
  const float inside = std::clamp(value, -largest(type), largest(type));
  if (type == Activation8::int8)
    return static_cast<std::byte>(static_cast<std::int8_t>(std::nearbyint(inside)));
  constexpr int kMantissa = 3, kLeastExponent = -6;
  const int exponent = inside == 0 ? kLeastExponent : std::max(std::ilogb(inside), kLeastExponent);
  const float steps = std::nearbyint(std::ldexp(inside, kMantissa - exponent));
  return static_cast<std::byte>(exact_e4m3(std::ldexp(steps, exponent - kMantissa)).value());
}
float value_of(Activation8 type, std::byte bits) {
  return type == Activation8::int8 ? static_cast<float>(static_cast<std::int8_t>(bits))
                                   : e4m3_to_float(std::to_integer<std::uint8_t>(bits));
}

/// Rows of K values each, in place.
void quantize(KernelActivations& activations, K k, Activation8 type) {
  activations.bytes.resize(activations.values.size());
  for (std::size_t first = 0; first < activations.values.size(); first += static_cast<std::size_t>(k.value)) {
    const std::span row = std::span{activations.values}.subspan(first, static_cast<std::size_t>(k.value));
    float most = 0;
    for (const float value : row) most = std::max(most, std::abs(value));
    const float scale = most > 0 ? most / largest(type) : 1.0f;
    activations.row_scales.push_back(scale);
    for (std::size_t i = 0; i < row.size(); ++i) {
      activations.bytes[first + i] = round_to(type, row[i] / scale);
      row[i] = value_of(type, activations.bytes[first + i]);
    }
  }
}

}  // namespace

std::uint16_t to_bits(float value, Float type) {
  return type == Float::f16 ? float_to_f16(value) : float_to_bf16(value);
}
float to_float(std::uint16_t bits, Float type) {
  return type == Float::f16 ? f16_to_float(bits) : bf16_to_float(bits);
}

KernelActivations outlier_activations(M m, K k, std::uint64_t seed, Float type,
                                      std::optional<Activation8> quantized) {
  constexpr double kDeviation = 0.5, kOutlier = 40.0;
  KernelActivations made;
  made.halves.resize(static_cast<std::size_t>(m.value * k.value));
  made.values.resize(made.halves.size());
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < m.value; ++row)
    for (std::int64_t col = 0; col < k.value; ++col) {
      const std::uint64_t draw =
          random_bits(seed ^ random_bits(static_cast<std::uint64_t>(row * k.value + col)));
      const double normal =  // Box and Muller
          std::sqrt(-2.0 * std::log(random_unit(draw))) *
          std::cos(2.0 * std::numbers::pi * random_unit(random_bits(draw)));
      const bool outlier = random_bits(seed + 1 + static_cast<std::uint64_t>(col)) % 64 == 0;
      const auto at = static_cast<std::size_t>(row * k.value + col);
      made.halves[at] = to_bits(static_cast<float>(normal * kDeviation * (outlier ? kOutlier : 1.0)), type);
      made.values[at] = to_float(made.halves[at], type);
    }
  if (quantized) {
    quantize(made, k, *quantized);
    made.halves.clear();
  }
  return made;
}

KernelActivations whole_fp8_activations(M m, K k, std::uint64_t seed) {
  KernelActivations made;
  for (std::int64_t row = 0; row < m.value; ++row) {
    made.row_scales.push_back(static_cast<float>(
        std::exp2(random_unit(random_bits(seed + static_cast<std::uint64_t>(row))) - 5.5)));
    for (std::int64_t col = 0; col < k.value; ++col) {
      const std::uint64_t draw =
          random_bits(seed ^ random_bits(static_cast<std::uint64_t>(row * k.value + col)));
      const int whole = static_cast<int>(draw % (2 * kExactFp8 + 1)) - kExactFp8;
      made.values.push_back(static_cast<float>(whole));
      made.bytes.push_back(round_to(Activation8::e4m3, made.values.back()));
    }
  }
  return made;
}

}  // namespace mpk
