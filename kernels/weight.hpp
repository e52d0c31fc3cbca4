#pragma once
// What the kernels tell apart: the kinds of weights and of activations. Plain C++.

#include <optional>

#include "packer/format/digit_map.hpp"
#include "packer/format/scalar_type.hpp"

namespace mpk {

/// Activations, outputs, 16-bit scales and biases.
enum class Float { f16, bf16 };
constexpr const char* name_of(Float f) {
  return f == Float::f16 ? "f16" : "bf16";
}

/// Activations of 8 bits; each of their rows has a float32 scale.
enum class Activation8 { int8, e4m3 };
constexpr const char* name_of(Activation8 a) {
  return a == Activation8::int8 ? "int8" : "e4m3";
}

/// What a layer's codes and scales mean; bytes as FORMAT.md "marlin" says, or "marlin-a8" for activations of
/// 8 bits.
enum class Weight {
  u4b8,    ///< (code - 8) * scale
  u4,      ///< (code - zero point) * scale, zero points per group
  u8b128,  ///< (code - 128) * scale
  e4m3,    ///< float * scale; the stored scale contains 2^8 (f16) or 2^120 (bf16), which decoding leaves out
  nvfp4,   ///< e2m1 * scale * global scale, an e5m3 scale per 16 rows
  mxfp4,   ///< e2m1 * scale, an e8m0 scale, up to 2^64, per 32 rows
  u4_float_zeros,  ///< (code - zero point) * scale, zero points 16-bit floats per group
};
inline constexpr Weight kWeights[] = {Weight::u4b8,  Weight::u4,    Weight::u8b128,        Weight::e4m3,
                                      Weight::nvfp4, Weight::mxfp4, Weight::u4_float_zeros};

constexpr MPK_HOST_DEVICE int bits_of(Weight w) {
  return w == Weight::u8b128 || w == Weight::e4m3 ? 8 : 4;
}
constexpr MPK_HOST_DEVICE bool is_fp4(Weight w) {
  return w == Weight::nvfp4 || w == Weight::mxfp4;
}
constexpr MPK_HOST_DEVICE int scale_bytes(Weight w) {
  return is_fp4(w) ? 1 : 2;
}
/// Rows that share a scale, at least.
constexpr MPK_HOST_DEVICE int min_group_size(Weight w) {
  return w == Weight::nvfp4 ? 16 : 32;
}
/// Of one stored zero point; 0: there are none.
constexpr MPK_HOST_DEVICE int zero_bits(Weight w) {
  return w == Weight::u4 ? 4 : w == Weight::u4_float_zeros ? 16 : 0;
}
constexpr const char* name_of(Weight w) {
  switch (w) {
    case Weight::u4b8:
      return "u4b8";
    case Weight::u4:
      return "u4";
    case Weight::u8b128:
      return "u8b128";
    case Weight::e4m3:
      return "e4m3";
    case Weight::nvfp4:
      return "nvfp4";
    case Weight::mxfp4:
      return "mxfp4";
    case Weight::u4_float_zeros:
      return "u4fz";
  }
  return "?";
}
/// Floats of 4 bits are told apart by the rows that share a scale: 16 or 32.
constexpr std::optional<Weight> weight_of(ScalarType type, int group_size, bool float_zeros = false) {
  if (float_zeros) return type == kU4 ? std::optional{Weight::u4_float_zeros} : std::nullopt;
  if (type == kU4B8) return Weight::u4b8;
  if (type == kU4) return Weight::u4;
  if (type == kU8B128) return Weight::u8b128;
  if (type == kE4M3) return Weight::e4m3;
  if (type == kE2M1 && group_size == 16) return Weight::nvfp4;
  if (type == kE2M1 && group_size == 32) return Weight::mxfp4;
  return std::nullopt;
}

}  // namespace mpk
