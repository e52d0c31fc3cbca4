#pragma once
// 2:4 sparse Marlin: of every four rows of a column two codes are kept, the other two stand for the weight 0.
// FORMAT.md, "marlin-24", draws the bytes.

#include <cstddef>
#include <span>

#include "packer/format/quantized_matrix.hpp"
#include "packer/pack.hpp"

namespace mpk {

/// Whether every quad of rows 4i .. 4i+3 of every column has at most two codes other than the type's bias.
/// False for other types than u4b8 and u8b128, for act_order and for K % 4 != 0.
bool is_24(const QuantizedMatrix&);

/// Bytes of the positions of the kept codes: 4 bits for every quad.
constexpr std::size_t meta_bytes_24(K k, N n) {
  return static_cast<std::size_t>(k.value) * static_cast<std::size_t>(n.value) / 8;
}

/// Kept codes in 16 x 64 tiles of the K / 2 rows that compression leaves, kMarlin24U4 or kMarlin24U8 inside;
/// their positions as kMarlin24Meta says. Both buffers hold the whole matrix. Throws Error{unsupported}
/// unless K % 32 == 0, N, the window's total and first % 64 == 0 and the type is symmetric with 4 or 8 bits,
/// and for a matrix that is not 2:4 (the first quad in memory order is named); Error{bad_input} for a code
/// above the maximum and for buffers of another size.
void pack_marlin_24(const Codes& codes, ScalarType type, ColumnWindow window, std::span<std::byte> words,
                    std::span<std::byte> meta);
/// The inverse, with the type's bias in the rows that were not kept. Throws Error{bad_input} for positions
/// that do not ascend.
void unpack_marlin_24(std::span<const std::byte> words, std::span<const std::byte> meta, ScalarType type,
                      ColumnWindow window, Codes& codes);

}  // namespace mpk
