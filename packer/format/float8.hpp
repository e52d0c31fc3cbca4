#pragma once
// The 4- and 8-bit floats of weights and scales, as float32: exact, every one of them is a float32 number.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

namespace mpk {

/// E2M1: sign, 2 exponent, 1 mantissa bit.
constexpr float e2m1_to_float(std::uint8_t code) {
  constexpr float kMagnitude[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  const float magnitude = kMagnitude[code & 7u];
  return (code & 8u) != 0 ? -magnitude : magnitude;
}

/// E4M3 ("fn"): bias 7, subnormals, largest 448; 0x7f and 0xff are NaN.
constexpr float e4m3_to_float(std::uint8_t bits) {
  const std::uint32_t sign = (bits & 0x80u) << 24, exponent = (bits >> 3) & 15u, mantissa = bits & 7u;
  if ((bits & 0x7fu) == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 120u) << 23) | (mantissa << 20));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-9f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}

/// The E4M3 number with exactly this value (-0 included); nullopt: there is none.
constexpr std::optional<std::uint8_t> exact_e4m3(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint8_t>((u >> 24) & 0x80u);
  const float magnitude = std::bit_cast<float>(u & 0x7fffffffu);
  if (!(magnitude <= 448.0f)) return std::nullopt;
  std::uint8_t bits;
  if (magnitude < 0x1p-6f) {
    const float steps = magnitude * 0x1p9f;
    bits = static_cast<std::uint8_t>(steps);
  } else {
    const std::uint32_t m = u & 0x7fffffffu;
    bits = static_cast<std::uint8_t>((((m >> 23) - 120u) << 3) | ((m >> 20) & 7u));
  }
  if (e4m3_to_float(bits) != magnitude) return std::nullopt;
  return static_cast<std::uint8_t>(bits | sign);
}

/// E8M0: 2^(bits - 127); 255 is NaN.
constexpr float e8m0_to_float(std::uint8_t bits) {
  if (bits == 255) return std::numeric_limits<float>::quiet_NaN();
  if (bits == 0) return 0x1p-127f;  // a float32 subnormal
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 23);
}

/// The E8M0 number with exactly this value; nullopt: not a power of two between 2^-127 and 2^127.
constexpr std::optional<std::uint8_t> exact_e8m0(float value) {
  if (value == 0x1p-127f) return std::uint8_t{0};
  const auto u = std::bit_cast<std::uint32_t>(value);
  if ((u & 0x807fffffu) != 0 || u == 0 || u >= 0x7f800000u) return std::nullopt;
  return static_cast<std::uint8_t>(u >> 23);
}

}  // namespace mpk
