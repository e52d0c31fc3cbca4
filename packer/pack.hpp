#pragma once
// Codes to 32-bit little-endian words and back. FORMAT.md draws the layouts; packer/format/layouts.hpp states
// them. All of these take some columns of a matrix, so that a large one passes through the cache in slabs.

#include <cstddef>
#include <span>

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// Which columns of a whole matrix of `total` columns.
struct ColumnWindow {
  N total;
  std::int64_t first = 0;
};

/// Bytes of K x N packed codes, in every layout here whose rows end on a word.
constexpr std::size_t packed_bytes(K k, N n, ScalarType type) {
  return static_cast<std::size_t>(k.value) * static_cast<std::size_t>(n.value) *
         static_cast<std::size_t>(type.bits) / 8;
}

/// order[k] = the row of the matrix that stands at packed row k, a permutation; empty: all stand at their
/// own.
using RowOrder = std::span<const std::int32_t>;

/// Marlin: 16 x 64 tiles, kMarlinU4 or kMarlinU8 inside. `out` holds the whole matrix and may be unaligned.
/// Throws Error{unsupported} unless K % 16 == 0, N, the window's total and first % 64 == 0 and the type has 4
/// or 8 bits, Error{bad_input} for a code above the type's maximum (the first one in memory order, at any
/// number of threads).
void pack_marlin(const Codes& codes, ScalarType type, ColumnWindow window, std::span<std::byte> out,
                 RowOrder order = {});
/// The inverse; `codes` has its size and receives the window's columns.
void unpack_marlin(std::span<const std::byte> words, ScalarType type, ColumnWindow window, Codes& codes,
                   RowOrder order = {});

/// 4-bit codes as sign and magnitude around their zero, which a kernel turns into FP8 with two bit
/// operations: c - zero if c >= zero, else 15 - c. One to one for every zero in 0 .. 15.
struct Recoding {
  const ZeroCodes* zero_points = nullptr;  ///< (groups, columns of the window); null: `zero` everywhere
  int zero = 8;
  std::int64_t rows_per_group = 1;
};

/// Marlin with 8-bit activations: 32 x 32 tiles, kMarlinA8U4 (recoded, if `recoding`) or kMarlinA8U8 inside.
/// Errors as for pack_marlin, with K and N % 32.
void pack_marlin_a8(const Codes& codes, ScalarType type, ColumnWindow window, std::span<std::byte> out,
                    const Recoding* recoding = nullptr);
void unpack_marlin_a8(std::span<const std::byte> words, ScalarType type, ColumnWindow window, Codes& codes,
                      const Recoding* recoding = nullptr);

/// A stream of bits down k per column, lowest bits first, cut into words; where the words stand.
struct WordGrid {
  std::int64_t row_stride = 1;     ///< words from one word of a column to its next
  std::int64_t column_stride = 1;  ///< words from a column to the next

  /// (words, N) row-major: GPTQ.
  static WordGrid down(N total) { return {total.value, 1}; }
  /// (N, words) row-major: compressed-tensors.
  static WordGrid across(K k, int bits) { return {1, words_per_column(k, bits)}; }
  static constexpr std::int64_t words_per_column(K k, int bits) { return (k.value * bits + 31) / 32; }
};

/// 2 to 8 bits per code. Throws Error{bad_input} for a code above the maximum, or if the words of the columns
/// do not fit into `out`.
void pack_along_k(const Codes& codes, int bits, WordGrid grid, std::int64_t first_column,
                  std::span<std::byte> out);
void unpack_along_k(std::span<const std::byte> words, int bits, WordGrid grid, std::int64_t first_column,
                    Codes& codes);

/// Element i of a stream of words in memory, `bits` each (8 at most), lowest first; an element may straddle
/// two words.
inline std::uint32_t stream_element(std::span<const std::byte> words, std::int64_t i, int bits) {
  const auto bit = static_cast<std::size_t>(i * bits), byte = bit / 8;
  const auto at = [&](std::size_t index) { return static_cast<std::uint32_t>(words[index]); };
  const std::uint32_t two = at(byte) | (byte + 1 < words.size() ? at(byte + 1) << 8 : 0);
  return (two >> (bit % 8)) & ((1u << bits) - 1);
}
/// ORs `value` into the stream.
inline void add_stream_element(std::span<std::byte> words, std::int64_t i, int bits, std::uint32_t value) {
  const auto bit = static_cast<std::size_t>(i * bits);
  const std::uint32_t two = value << (bit % 8);
  words[bit / 8] |= static_cast<std::byte>(two);
  if ((two >> 8) != 0) words[bit / 8 + 1] |= static_cast<std::byte>(two >> 8);
}

}  // namespace mpk
