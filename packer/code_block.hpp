#pragma once
// Up to 256 x 64 codes in a buffer of their own. A (K, N) matrix is column-major with K often a power of two:
// the columns of one tile fall into the same cache set and on 64 pages. So long runs are fetched once, into
// here, and packed from here.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/layouts.hpp"
#include "packer/format/quantized_matrix.hpp"

namespace mpk {

static_assert(std::endian::native == std::endian::little, "words are stored as they stand in memory");

inline constexpr int kBlockRows = 256, kBlockCols = 64;  // 16 KiB: half of a first-level cache

struct CodeBlock {
  alignas(64) std::array<std::uint8_t, kBlockRows * kBlockCols> codes;  ///< (k, n) at n * kBlockRows + k
  int rows = 0, cols = 0;

  void resize_at(std::int64_t k0, std::int64_t n0, K k, N n) {
    rows = static_cast<int>(std::min<std::int64_t>(kBlockRows, k.value - k0));
    cols = static_cast<int>(std::min<std::int64_t>(kBlockCols, n.value - n0));
  }
  /// Reads the block at (k0, n0); false if one of its codes is above max_code. Rows come in steps of kTileK.
  bool load(const Codes& from, std::int64_t k0, std::int64_t n0, int max_code) {
    resize_at(k0, n0, K{from.rows()}, N{from.cols()});
    std::uint64_t all = 0;
    for (int n = 0; n < cols; ++n)
      for (int k = 0; k < rows; k += kTileK) {
        std::array<std::uint64_t, kTileK / 8> run;
        std::memcpy(run.data(), from.data() + (n0 + n) * from.rows() + k0 + k, sizeof run);
        std::memcpy(codes.data() + n * kBlockRows + k, run.data(), sizeof run);
        for (std::uint64_t x : run) all |= x;
      }
    const std::uint64_t too_large = 0x0101010101010101u * static_cast<std::uint64_t>(255 - max_code);
    return (all & too_large) == 0;  // max_code is 2^bits - 1
  }
  void store(Codes& to, std::int64_t k0, std::int64_t n0) const {
    for (int n = 0; n < cols; ++n)
      for (int k = 0; k < rows; k += kTileK)
        std::memcpy(to.data() + (n0 + n) * to.rows() + k0 + k, codes.data() + n * kBlockRows + k, kTileK);
  }
};

/// Tile code (k, n) is source index k * kTileN + n of a layout; this is its place in a block that begins
/// with the tile.
constexpr int block_index(int tile_source) {
  return tile_source % kTileN * kBlockRows + tile_source / kTileN;
}

/// A layout of a tile, taken apart: code `field` of word `word` comes from block index of_field[field] +
/// of_word[word]. Mixed radix splits so wherever a word ends on a digit's end; is_exact checks every code.
template <DigitMap kMap, int kBits>
struct TileGather {
  static constexpr int kFields = 32 / kBits, kWords = kMap.size() / kFields;
  std::array<std::uint16_t, kFields> of_field{};
  std::array<std::uint16_t, kWords> of_word{};

  constexpr TileGather() {
    for (int field = 0; field < kFields; ++field)
      of_field[field] = static_cast<std::uint16_t>(block_index(source<kMap>(field)));
    for (int word = 0; word < kWords; ++word)
      of_word[word] = static_cast<std::uint16_t>(block_index(source<kMap>(word * kFields)));
  }
  constexpr bool is_exact() const {
    for (int word = 0; word < kWords; ++word)
      for (int field = 0; field < kFields; ++field)
        if (of_word[word] + of_field[field] != block_index(source<kMap>(word * kFields + field)))
          return false;
    return true;
  }
};

template <DigitMap kMap, int kBits>
inline constexpr TileGather<kMap, kBits> kTileGather{};
static_assert(kTileGather<kMarlinU4, 4>.is_exact() && kTileGather<kMarlinU8, 8>.is_exact());

/// Shared checks of packer and unpacker.
inline void require_packable(K k, N n, ScalarType type, std::size_t bytes, std::size_t needed, int unit_k,
                             int unit_n, const char* layout) {
  if (type.bits != 4 && type.bits != 8)
    throw Error{ErrorKind::unsupported,
                fmt::format("{} packs 4- and 8-bit codes, not {}-bit", layout, type.bits)};
  if (k.value <= 0 || n.value <= 0 || k.value % unit_k != 0 || n.value % unit_n != 0)
    throw Error{ErrorKind::unsupported,
                fmt::format("{} packs K % {} == 0 and N % {} == 0; here K = {}, N = {}", layout, unit_k,
                            unit_n, k.value, n.value)};
  if (bytes != needed)
    throw Error{ErrorKind::bad_input, fmt::format("K = {}, N = {}, {} bits are {} bytes packed, not {}",
                                                  k.value, n.value, type.bits, needed, bytes)};
}

}  // namespace mpk
