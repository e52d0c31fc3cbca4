#pragma once
// Codes in 32-bit words as compressed-tensors writes them: dense, a stream of bits, or legacy (until late
// 2025), as many whole fields as fit into a word, its highest bits left 0. Both are the same for 2, 4 and 8
// bits.

#include <span>

#include "packer/format/quantized_matrix.hpp"

namespace mpk::formats {

enum class WordFields { dense, legacy };

constexpr std::int64_t num_words(std::int64_t count, int bits, WordFields fields) {
  const int per_word = 32 / bits;
  return fields == WordFields::dense ? (count * bits + 31) / 32 : (count + per_word - 1) / per_word;
}

/// The first bit of field i, counted over words.
constexpr std::int64_t first_bit(std::int64_t i, int bits, WordFields fields) {
  const int per_word = 32 / bits;
  return fields == WordFields::dense ? i * bits : i / per_word * 32 + i % per_word * bits;
}

/// Columns of `codes` from and to rows of words, (N, words) in C order, beginning with row first_column. Bits
/// that no code owns are written as 0. Both throw Error{bad_input} if the rows are not all there, the former
/// for a code above the maximum, the latter if bits that no code owns are not 0, which it could not
/// reproduce.
void pack_fields(const Codes& codes, int bits, WordFields fields, std::int64_t first_column,
                 std::span<std::byte> words);
void unpack_fields(std::span<const std::byte> words, int bits, WordFields fields, std::int64_t first_column,
                   Codes& codes);

}  // namespace mpk::formats
