#pragma once
// Codes to what tensor cores multiply with activations of 8 bits: four codes of a register become four bytes,
// int8 or e4m3, together. One word of a 4-bit layer, or two of an 8-bit layer, become the B fragment of one
// n-block of mma.m16n8k32. Integer arithmetic only: compiles as plain C++.

#include <cstdint>

#include "kernels/weight.hpp"
#include "packer/format/digit_map.hpp"

namespace mpk {

namespace detail {

constexpr MPK_HOST_DEVICE std::uint32_t four_times(std::uint32_t byte) {
  return byte * 0x01010101u;
}

// Each takes one code a byte. No sum or difference below carries or borrows across bytes.

/// code - zero, of 4 bits each. `zero` in all four bytes.
constexpr MPK_HOST_DEVICE std::uint32_t int8_of_u4(std::uint32_t x, std::uint32_t zero) {
  return (((x & 0x0f0f0f0fu) | four_times(0x80)) - zero) ^ four_times(0x80);
}
/// FORMAT.md "marlin-a8": codes c - 8 from 8 on, else 15 - c. A magnitude of at most 15 is an e4m3 as it
/// stands, in units of 2^-9.
constexpr MPK_HOST_DEVICE std::uint32_t e4m3_of_u4b8(std::uint32_t x) {
  const std::uint32_t negative = x & four_times(8);
  return ((x & 0x07070707u) | (negative << 4)) + (negative >> 3);
}
/// Codes c - z from z on, else 15 - c: with z added, these reach 16 and are c - z + 15 too many in magnitude.
constexpr MPK_HOST_DEVICE std::uint32_t e4m3_of_u4(std::uint32_t x, std::uint32_t zero) {
  const std::uint32_t code = x & four_times(15), sum = code + zero, negative = sum & four_times(16);
  const std::uint32_t ones = negative >> 4, low = negative - ones;  // 1 and 15 in the bytes that are negative
  return (((sum & low) | (code & ~low)) + ones) | negative << 3;
}
/// e2m1 in the upper halves of the bytes. Leaves out 2^6.
constexpr MPK_HOST_DEVICE std::uint32_t e4m3_of_e2m1(std::uint32_t x) {
  return ((x & 0x80808080u) | (x & four_times(0x70)) >> 2);
}

}  // namespace detail

/// Sums of products with what decode8() gives are too large by this.
template <Weight kWeight, Activation8 kActivations>
inline constexpr float kDecoded8 = kWeight == Weight::u4b8&& kActivations == Activation8::int8 ? 16.0f : 1.0f;

/// n-block `block` of 4 in a lane's words of one 32 x 32 tile: columns 8 * block + lane / 4. Exact. `zero`:
/// u4's zero point of that column, in every byte.
template <Weight kWeight, Activation8 kActivations>
constexpr MPK_HOST_DEVICE void decode8(const std::uint32_t* words, int block, std::uint32_t (&out)[2],
                                       std::uint32_t zero = 0) {
  constexpr std::uint32_t kSigns = detail::four_times(0x80);
  if constexpr (kWeight == Weight::u8b128) {
    static_assert(kActivations == Activation8::int8);
    out[0] = words[2 * block] ^ kSigns;
    out[1] = words[2 * block + 1] ^ kSigns;
  } else {
    const std::uint32_t low = words[block], high = low >> 4;
    if constexpr (kActivations == Activation8::int8) {
      if constexpr (kWeight == Weight::u4b8) {  // in the upper half of a byte: 16 (code - 8)
        out[0] = (low << 4 & 0xf0f0f0f0u) ^ kSigns;
        out[1] = (low & 0xf0f0f0f0u) ^ kSigns;
      } else {
        static_assert(kWeight == Weight::u4);
        out[0] = detail::int8_of_u4(low, zero);
        out[1] = detail::int8_of_u4(high, zero);
      }
    } else if constexpr (kWeight == Weight::u4b8) {
      out[0] = detail::e4m3_of_u4b8(low);
      out[1] = detail::e4m3_of_u4b8(high);
    } else if constexpr (kWeight == Weight::u4) {
      out[0] = detail::e4m3_of_u4(low, zero);
      out[1] = detail::e4m3_of_u4(high, zero);
    } else {
      static_assert(kWeight == Weight::mxfp4);
      out[0] = detail::e4m3_of_e2m1(low << 4);
      out[1] = detail::e4m3_of_e2m1(low);
    }
  }
}

/// The float32, as its bits, that an e8m0 scale stands for: the byte is the exponent; 0 means 2^-127.
constexpr MPK_HOST_DEVICE std::uint32_t decode_e8m0(std::uint32_t byte) {
  return byte > 0 ? byte << 23 : 0x00400000u;
}

/// The zero point of n-block `block` of 8, from a word with those of a lane's eight columns, in every byte.
constexpr MPK_HOST_DEVICE std::uint32_t decode_zero8(std::uint32_t x, int block) {
  return detail::four_times(x >> 4 * block & 15u);
}

}  // namespace mpk
