#pragma once
// Sums and exponentials whose bits depend on the values alone. The library versions do not promise that: a
// vectorised loop may treat its first and last elements, found by the address, differently from the rest.
// Here every element takes the same steps of IEEE arithmetic, in loops the compiler turns into vector code.

#include <bit>
#include <cmath>
#include <cstdint>

namespace mpk {

inline constexpr std::int64_t kLanes = 16;  // independent partial sums: one 512-bit or two 256-bit registers

/// e^x, to 2 ulp; 0 below the normal range, a finite huge value above the largest, NaN for NaN.
inline float exponential(float x) {
  constexpr float kLowest = -87.0f, kHighest = 88.0f;
  float clamped = x < kLowest ? kLowest : x;
  clamped = clamped > kHighest ? kHighest : clamped;
  // x = n ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to an integer and leaves it in the low
  // bits.
  constexpr float kRound = 12582912.0f;
  const float shifted = clamped * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts, the first exact
  // Taylor's series to r^7: the next term is below 2^-27 at the interval's end.
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.0f;
  const auto exponent = (std::bit_cast<std::uint32_t>(shifted) << 23) + 0x3f800000u;
  const float power = std::bit_cast<float>(exponent);  // 2^n: the low bits of kRound itself are shifted out
  return x < kLowest ? 0.0f : p * power;
}

/// x * sigmoid(x).
inline float silu(float x) {
  return x / (1.0f + exponential(-x));
}

/// x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3): GELU with its tanh, x / 2 (1 + tanh u), written
/// out.
inline float gelu_tanh(float x) {
  const float u = 0.797884561f * (x + 0.044715f * x * x * x);
  return x / (1.0f + exponential(-2.0f * u));
}

/// tanh x, within some 2e-7.
inline float hyperbolic_tangent(float x) {
  const float size = x < 0.0f ? -x : x, square = x * x;
  const float decay = exponential(-2.0f * size);
  const float large = (1.0f - decay) / (1.0f + decay);
  // Near 0 the difference cancels. Taylor's series to x^9: the next term is below 2^-24 of x at the border.
  float series = 62.0f / 2835.0f;
  series = series * square - 17.0f / 315.0f;
  series = series * square + 2.0f / 15.0f;
  series = series * square - 1.0f / 3.0f;
  series = series * square * size + size;
  const float result = size < 0.25f ? series : large;
  return x < 0.0f ? -result : result;
}

/// x[i] <- softcap * tanh(x[i] / softcap) for x[0] .. x[n - 1].
inline void cap(float* x, std::int64_t n, float softcap) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = softcap * hyperbolic_tangent(x[i] / softcap);
}

/// Sum of term(0) .. term(n - 1): lane l adds the terms l, l + 16, ... in order, then the lanes are added in
/// pairs. `Sum` is float or double; `term` returns it.
template <class Sum, class Term>
Sum sum_in_lanes(std::int64_t n, Term&& term) {
  Sum lane[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (std::int64_t l = 0; l < kLanes; ++l) lane[l] += term(i + l);
  for (std::int64_t l = 0; i + l < n; ++l) lane[l] += term(i + l);
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2)
    for (std::int64_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

/// The largest of x[0] .. x[n - 1], n > 0; some other element or NaN if one of them is NaN.
inline float largest(const float* x, std::int64_t n) {
  float lane[kLanes];
  for (std::int64_t l = 0; l < kLanes; ++l) lane[l] = x[0];
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (std::int64_t l = 0; l < kLanes; ++l) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
  for (; i < n; ++i) lane[0] = x[i] > lane[0] ? x[i] : lane[0];
  for (std::int64_t l = 1; l < kLanes; ++l) lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
  return lane[0];
}

}  // namespace mpk
