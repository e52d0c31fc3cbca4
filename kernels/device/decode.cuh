#pragma once
// Codes to 16-bit floats without conversion instructions: a code is placed where it becomes the mantissa of a
// float whose exponent is known, or a small float is stretched into a larger format; what the placing added
// is taken off exactly. One word of a 4-bit layer, or two of an 8-bit layer, become a 16 x 16 fragment of
// B^T: register r holds (n + 8 (r % 2), k + 8 (r / 2)), which serves mma.m16n8k16 as two B fragments and
// wgmma as A.

#include <cstdint>

#include "kernels/device/packed_float.cuh"
#include "packer/format/digit_map.hpp"

namespace mpk {

namespace detail {

constexpr MPK_HOST_DEVICE std::uint32_t twice(std::uint32_t half) {
  return half << 16 | half;
}

/// 4-bit codes at bits 0 and 16, plus 2^m: the floats of that exponent whose last bit counts ones.
template <Float kFloat>
inline constexpr std::uint32_t kOnes = kFloat == Float::f16 ? twice(0x6400) : twice(0x4300);  // 1024, 128

/// Code - kBias, exact.
template <Float kFloat, int kBias>
__device__ __forceinline__ void decode_u4_less(std::uint32_t x, std::uint32_t (&out)[4]) {
  if constexpr (kFloat == Float::f16) {
    constexpr std::uint32_t kZero = twice(0x6400 + kBias);           // 1024 + kBias
    constexpr std::uint32_t kSixteenth = twice(0x2c00);              // 1/16
    constexpr std::uint32_t kHighZero = twice(0xd400 + 16 * kBias);  // -(1024 / 16 + kBias)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::uint32_t y = half ? x >> 8 : x;
      out[half] = sub<kFloat>(and_or<0x000f000f>(y, kOnes<kFloat>), kZero);
      out[2 + half] = fma<kFloat>(and_or<0x00f000f0>(y, kOnes<kFloat>), kSixteenth, kHighZero);
    }
  } else {
    constexpr std::uint32_t kZero = twice(0x4300 + kBias);
    out[0] = sub<kFloat>(and_or<0x000f000f>(x, kOnes<kFloat>), kZero);
    out[2] = sub<kFloat>(and_or<0x000f000f>(x >> 4, kOnes<kFloat>), kZero);
    out[1] = sub<kFloat>(and_or<0x000f000f>(x >> 8, kOnes<kFloat>), kZero);
    out[3] = sub<kFloat>(and_or<0x000f000f>(x >> 12, kOnes<kFloat>), kZero);
  }
}
/// `zeros`: 2^m + zero point of columns n and n + 8.
template <Float kFloat>
__device__ __forceinline__ void decode_u4(std::uint32_t x, std::uint32_t zeros, std::uint32_t (&out)[4]) {
  const std::uint32_t low = broadcast<0>(zeros), high = broadcast<1>(zeros);
  out[0] = sub<kFloat>(and_or<0x000f000f>(x, kOnes<kFloat>), low);
  out[2] = sub<kFloat>(and_or<0x000f000f>(x >> 4, kOnes<kFloat>), low);
  out[1] = sub<kFloat>(and_or<0x000f000f>(x >> 8, kOnes<kFloat>), high);
  out[3] = sub<kFloat>(and_or<0x000f000f>(x >> 12, kOnes<kFloat>), high);
}
/// `zeros`: any floats; rounded once.
template <Float kFloat>
__device__ __forceinline__ void decode_u4_float_zeros(std::uint32_t x, std::uint32_t zeros,
                                                      std::uint32_t (&out)[4]) {
  const std::uint32_t low = broadcast<0>(zeros), high = broadcast<1>(zeros);
  decode_u4_less<kFloat, 0>(x, out);
  out[0] = sub<kFloat>(out[0], low), out[1] = sub<kFloat>(out[1], high);
  out[2] = sub<kFloat>(out[2], low), out[3] = sub<kFloat>(out[3], high);
}
/// A code in a float's last bits, or four bits further up, is that multiple of the smallest number (also
/// bf16's largest codes there, which reach into the exponent: the first normal numbers go on in the same
/// steps). Times 2^15 or 2^127, with the zero point taken off, that is (code - zero point) * kStep in one
/// operation. `zeros`: -zero point * kStep of columns n and n + 8.
template <Float kFloat>
inline constexpr float kStep = kFloat == Float::f16 ? 0x1p-9f : 0x1p-6f;
template <Float kFloat>
inline constexpr std::uint32_t kFromSmallest = kFloat == Float::f16 ? twice(0x7800) : twice(0x7f00);
template <Float kFloat>
__device__ __forceinline__ std::uint32_t in_steps(float value) {
  return round_to<kFloat>(value * kStep<kFloat>, value * kStep<kFloat>);
}
template <Float kFloat>
__device__ __forceinline__ void decode_u4_steps(std::uint32_t x, std::uint32_t zeros,
                                                std::uint32_t (&out)[4]) {
  constexpr std::uint32_t kFromSixteen = kFloat == Float::f16 ? twice(0x6800) : twice(0x7d00);
  const std::uint32_t y = x >> 8, low = broadcast<0>(zeros), high = broadcast<1>(zeros);
  out[0] = fma<kFloat>(x & 0x000f000f, kFromSmallest<kFloat>, low);
  out[1] = fma<kFloat>(y & 0x000f000f, kFromSmallest<kFloat>, high);
  out[2] = fma<kFloat>(x & 0x00f000f0, kFromSixteen, low);
  out[3] = fma<kFloat>(y & 0x00f000f0, kFromSixteen, high);
}
/// One word: bytes 0 and 2 (k), bytes 1 and 3 (k + 8) of one column.
template <Float kFloat>
__device__ __forceinline__ void decode_u8b128(std::uint32_t x, std::uint32_t& k, std::uint32_t& k8) {
  if constexpr (kFloat == Float::f16) {
    constexpr std::uint32_t kZero = twice(0x6480);  // 1024 + 128
    k = sub<kFloat>(__byte_perm(x, kOnes<kFloat>, 0x5250), kZero);
    k8 = sub<kFloat>(__byte_perm(x, kOnes<kFloat>, 0x5351), kZero);
  } else {
    // Seven bits are all that fits behind 128; the eighth, if set, lowers what is taken off from 256 to 128.
    constexpr std::uint32_t kZero = twice(0x4380);
    const std::uint32_t y = x >> 8;
    k = sub<kFloat>(and_or<0x007f007f>(x, kOnes<kFloat>), and_xor<0x00800080>(x, kZero));
    k8 = sub<kFloat>(and_or<0x007f007f>(y, kOnes<kFloat>), and_xor<0x00800080>(y, kZero));
  }
}
/// The float in the top bits of each half of x, kMagnitude its bits but for the sign, moved down to where a
/// 16-bit float has them.
template <std::uint32_t kMagnitude, int kShift>
__device__ __forceinline__ std::uint32_t stretch(std::uint32_t x) {
  return and_or<0x80008000>(x, (x & kMagnitude) >> kShift);
}
template <Float kFloat>
__device__ __forceinline__ void decode_e4m3(std::uint32_t x, std::uint32_t& k, std::uint32_t& k8) {
  constexpr int kShift = kFloat == Float::f16 ? 1 : 4;
  k8 = stretch<0x7f007f00, kShift>(x);
  k = stretch<0x7f007f00, kShift>(x << 8);
}
/// Leaves out 2^14 in f16, 2^126 in bf16. Two codes at a time: their signs stay, their magnitudes move down
/// to where they lie as far behind as in the float. What else then stands around is masked off last.
template <Float kFloat>
__device__ __forceinline__ void decode_e2m1(std::uint32_t x, std::uint32_t (&out)[4]) {
  if constexpr (kFloat == Float::f16) {
    constexpr std::uint32_t kSigns = 0x80808080, kFloats = 0x8e008e00;
    const std::uint32_t odd = select<kSigns>(x, x >> 3), even = select<kSigns>(x << 4, x << 1);
    out[0] = even << 8 & kFloats, out[1] = even & kFloats;
    out[2] = odd << 8 & kFloats, out[3] = odd & kFloats;
  } else {
    constexpr std::uint32_t kFloats = 0x81c081c0;
    const std::uint32_t high = select<0x88008800>(x, x >> 6), low = select<0x22002200>(x << 6, x);
    out[0] = low << 6 & kFloats, out[2] = low << 2 & kFloats;
    out[1] = high << 4 & kFloats, out[3] = high & kFloats;
  }
}

}  // namespace detail

/// Four scale bytes to the 16-bit floats of columns (0, 1) and (2, 3): the order they are stored in brings
/// each pair into two halves of the word. In bf16 too large, nvfp4 by 2^15 and mxfp4 by 2^63, so that
/// products with weights that lack 2^126 lie inside its range.
template <Weight kWeight, Float kFloat>
__device__ __forceinline__ void decode_scales(std::uint32_t x, std::uint32_t& low, std::uint32_t& high) {
  if constexpr (kWeight == Weight::mxfp4 || kFloat == Float::f16) {
    low = x << 7 & 0x7f807f80,
    high = x >> 1 & 0x7f807f80;  // exponent, or exponent and mantissa, of the float
  } else {
    low = x << 4 & 0x0ff00ff0, high = x >> 4 & 0x0ff00ff0;  // the same, but for a factor of 2^112
  }
  if constexpr (kFloat == Float::bf16) {
    constexpr std::uint32_t kLift = detail::twice(kWeight == Weight::nvfp4 ? 0x7f00 : 0x5f00);  // 2^127, 2^63
    low = mul<kFloat>(low, kLift), high = mul<kFloat>(high, kLift);
  }
}
/// 4-bit integers whose sums are scaled are decoded to multiples of a small power of two where that takes
/// fewer instructions. In f16 it leaves multiples of 2^-15 of a float zero point.
template <Weight kWeight, Float kFloat>
inline constexpr bool kInSteps = kWeight == Weight::u4 || kWeight == Weight::u4_float_zeros ||
                                 (kWeight == Weight::u4b8 && kFloat == Float::bf16);

/// Zero points of eight columns, as a word holds them, to what decode() wants of columns (2 j, 2 j + 1).
template <Float kFloat, bool kSteps = false>
__device__ __forceinline__ std::uint32_t decode_zeros(std::uint32_t x, int j) {
  constexpr std::uint32_t kNegative = detail::twice(0x8000);
  if constexpr (kSteps)
    return mul<kFloat>(x >> 4 * j & 0x000f000f, detail::kFromSmallest<kFloat> | kNegative);
  else
    return and_or<0x000f000f>(x >> 4 * j, detail::kOnes<kFloat>);
}
/// The same of two zero points that are floats.
template <Float kFloat, bool kSteps = false>
__device__ __forceinline__ std::uint32_t decode_float_zeros(std::uint32_t pair) {
  if constexpr (kSteps)
    return mul<kFloat>(pair, detail::in_steps<kFloat>(-1.0f));
  else
    return pair;
}

/// Where scales come last, sums of what decode() gives times this stay inside a float's range; the scale is
/// then too large by as much.
template <Weight kWeight, Float kFloat>
inline constexpr float kUnscaled = kWeight == Weight::e4m3&& kFloat == Float::bf16 ? 0x1p120f : 1.0f;
/// What sums of products with a code's decode() and its scale are still to be multiplied with, beside the
/// stored global scale, which contains the 2^126 that decode() leaves out (or f16's 2^14).
template <Weight kWeight, Float kFloat, bool kSteps = false>
inline constexpr float kLeftOut = kSteps                     ? 1.0f / detail::kStep<kFloat>
                                  : kFloat == Float::f16     ? 1.0f
                                  : kWeight == Weight::nvfp4 ? 0x1p-15f
                                  : kWeight == Weight::mxfp4 ? 0x1p63f
                                                             : 1.0f;

/// Fragment `j` of 4 in a lane's words of one 16 x 64 tile, in memory order: columns 16 j + lane / 4 and 8
/// more: what the scale is to be multiplied with; exact, but for u4_float_zeros. `zeros`: what decode_zeros()
/// or decode_float_zeros() gave.
template <Weight kWeight, Float kFloat, bool kSteps = false>
__device__ __forceinline__ void decode(const std::uint32_t* words, int j, std::uint32_t (&out)[4],
                                       std::uint32_t zeros = 0) {
  if constexpr (kSteps)
    detail::decode_u4_steps<kFloat>(words[j],
                                    kWeight == Weight::u4b8 ? detail::in_steps<kFloat>(-8.0f) : zeros, out);
  else if constexpr (kWeight == Weight::u4b8)
    detail::decode_u4_less<kFloat, 8>(words[j], out);
  else if constexpr (kWeight == Weight::u4)
    detail::decode_u4<kFloat>(words[j], zeros, out);
  else if constexpr (kWeight == Weight::u4_float_zeros)
    detail::decode_u4_float_zeros<kFloat>(words[j], zeros, out);
  else if constexpr (is_fp4(kWeight))
    detail::decode_e2m1<kFloat>(words[j], out);
  else {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if constexpr (kWeight == Weight::u8b128)
        detail::decode_u8b128<kFloat>(words[2 * j + half], out[half], out[2 + half]);
      else
        detail::decode_e4m3<kFloat>(words[2 * j + half], out[half], out[2 + half]);
  }
}
/// Exact weight to weight: one product, rounded once. `scales` of columns n and n + 8.
template <Float kFloat>
__device__ __forceinline__ void scale(std::uint32_t (&out)[4], std::uint32_t scales) {
  const std::uint32_t low = broadcast<0>(scales), high = broadcast<1>(scales);
  out[0] = mul<kFloat>(out[0], low), out[1] = mul<kFloat>(out[1], high);
  out[2] = mul<kFloat>(out[2], low), out[3] = mul<kFloat>(out[3], high);
}

}  // namespace mpk
