#pragma once
// Floats of every width that checkpoints hold, between their bytes and float32.

#include <cstddef>
#include <cstring>

#include "packer/format/float16.hpp"
#include "packer/format/float8.hpp"
#include "packer/format/tensor.hpp"

namespace mpk {

/// F32, BF16, F16, F8_E4M3, F8_E8M0: every value of these is a float32 number.
constexpr bool is_exact_in_float32(DType dtype) {
  return dtype == DType::F32 || dtype == DType::BF16 || dtype == DType::F16 || dtype == DType::F8_E4M3 ||
         dtype == DType::F8_E8M0;
}
constexpr std::size_t bytes_of(DType dtype) {
  return static_cast<std::size_t>(info(dtype).bits / 8);
}

/// The value at `at`, aligned or not. `dtype` is one of is_exact_in_float32.
inline float load_float(const std::byte* at, DType dtype) {
  std::uint16_t half;
  switch (dtype) {
    case DType::F8_E4M3:
      return e4m3_to_float(static_cast<std::uint8_t>(*at));
    case DType::F8_E8M0:
      return e8m0_to_float(static_cast<std::uint8_t>(*at));
    case DType::F16:
      std::memcpy(&half, at, sizeof half);
      return f16_to_float(half);
    case DType::BF16:
      std::memcpy(&half, at, sizeof half);
      return bf16_to_float(half);
    default:
      float value;
      std::memcpy(&value, at, sizeof value);
      return value;
  }
}

/// Stores `value` if `dtype` has it, to the bit (-0 is not 0); false: it has not.
inline bool store_exactly(float value, DType dtype, std::byte* at) {
  const auto store_half = [&](std::uint16_t bits, float back) {
    std::memcpy(at, &bits, sizeof bits);
    return std::bit_cast<std::uint32_t>(back) == std::bit_cast<std::uint32_t>(value);
  };
  switch (dtype) {
    case DType::F16:
      return store_half(float_to_f16(value), f16_to_float(float_to_f16(value)));
    case DType::BF16:
      return store_half(float_to_bf16(value), bf16_to_float(float_to_bf16(value)));
    case DType::F32:
      std::memcpy(at, &value, sizeof value);
      return true;
    case DType::F8_E4M3:
    case DType::F8_E8M0: {
      const auto bits = dtype == DType::F8_E4M3 ? exact_e4m3(value) : exact_e8m0(value);
      if (bits) *at = static_cast<std::byte>(*bits);
      return bits.has_value();
    }
    default:
      return false;
  }
}

/// `value` rounded once, to nearest even: F32, BF16 or F16.
inline void store_rounded(float value, DType dtype, std::byte* at) {
  if (dtype == DType::F32) {
    std::memcpy(at, &value, sizeof value);
  } else {
    const std::uint16_t bits = dtype == DType::F16 ? float_to_f16(value) : float_to_bf16(value);
    std::memcpy(at, &bits, sizeof bits);
  }
}

inline bool is_representable(float value, DType dtype) {
  std::byte scratch[4];
  return store_exactly(value, dtype, scratch);
}

}  // namespace mpk
