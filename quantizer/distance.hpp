#pragma once
// The distance between a weight and its nearest level that range searches add up: |error|^2.4, to within a
// few ulp, in multiplications only so that it vectorises. Compiles for the CPU and the GPU.

#include <bit>
#include <cstdint>

#include "packer/format/digit_map.hpp"

namespace mpk {

MPK_HOST_DEVICE inline float float_of_bits(std::int32_t bits) {
#ifdef __CUDA_ARCH__
  return __int_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}
MPK_HOST_DEVICE inline std::int32_t bits_of_float(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_int(value);
#else
  return std::bit_cast<std::int32_t>(value);
#endif
}

/// s^(-1/5) for s >= 0, finite at 0: a guess from the exponent bits, then two steps of third order.
MPK_HOST_DEVICE inline float inverse_fifth_root(float s) {
  constexpr float kGuess = 1277500000.0f;  // 1.2 * 127 * 2^23, less what halves the guess's worst error
  const auto bits = static_cast<float>(bits_of_float(s));
  float root = float_of_bits(static_cast<std::int32_t>(kGuess - 0.2f * bits));
  for (int step = 0; step < 2; ++step) {
    const float square = root * root;
    const float missing = 1.0f - (s * root) * (square * square);  // in this order nothing overflows at s = 0
    root += root * missing * (0.2f + 0.12f * missing);
  }
  return root;
}

MPK_HOST_DEVICE inline float power_2_4(float error) {
  const float s = error * error, root = inverse_fifth_root(s);
  const float half = s * root * root;  // s^(3/5)
  return half * half;
}

}  // namespace mpk
