#pragma once
// Codes to 32-bit little-endian words. FORMAT.md draws the layouts; packer/format/layouts.hpp states them.

#include <cstddef>
#include <span>

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// Bytes of K x N packed codes, in every layout here.
constexpr std::size_t packed_bytes(K k, N n, ScalarType type) {
  return static_cast<std::size_t>(k.value) * static_cast<std::size_t>(n.value) *
         static_cast<std::size_t>(type.bits) / 8;
}

/// Marlin: 16 x 64 tiles, kMarlinU4 or kMarlinU8 inside. `out` takes packed_bytes and may be unaligned.
/// Throws Error{unsupported} unless K % 16 == 0, N % 64 == 0 and the type has 4 or 8 bits, Error{bad_input}
/// for a code above the type's maximum (the first one in memory order, at any number of threads).
void pack_marlin(const Codes& codes, ScalarType type, std::span<std::byte> out);

/// GPTQ: one stream down k per column, lowest bits first; (K * bits / 32, N) words row-major.
/// Throws like pack_marlin, with K % 32 == 0 and N % 32 == 0.
void pack_gptq(const Codes& codes, ScalarType type, std::span<std::byte> out);

/// GPTQ v1's word of zero points when every zero is the type's bias: that version stores one less than it
/// means.
constexpr std::uint32_t gptq_v1_symmetric_zeros(ScalarType type) {
  std::uint32_t word = 0;
  for (int bit = 0; bit < 32; bit += type.bits) word |= static_cast<std::uint32_t>(type.bias - 1) << bit;
  return word;
}
static_assert(gptq_v1_symmetric_zeros(kU4B8) == 0x77777777u &&
              gptq_v1_symmetric_zeros(kU8B128) == 0x7f7f7f7fu);

}  // namespace mpk
