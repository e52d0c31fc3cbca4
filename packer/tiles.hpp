#pragma once
// Tiles of a matrix to consecutive words and back: what pack.cpp and sparse24.cpp share. A tile is kRows x
// kCols codes of kBits in the order of kMap; tiles run along n first, then along k.

#include <span>

#include "packer/code_block.hpp"
#include "packer/pack.hpp"

namespace mpk {

template <DigitMap kMap, int kBits_, int kRows_, int kCols_>
struct Tile {
  static constexpr int kBits = kBits_, kRows = kRows_, kCols = kCols_;
  static constexpr const auto& kGather = kTileGather<kMap, kBits, kCols>;
  static_assert(kMap.size() == kRows * kCols && kTileGather<kMap, kBits, kCols>.is_exact());
  static_assert(kBlockRows % kRows == 0 && kBlockCols % kCols == 0 && kRows % kTileK == 0);
  static constexpr std::int64_t kBytes = kRows * kCols * kBits / 8;

  /// The tile whose first code stands at `tile`, as words at `out`.
  static void pack(const std::uint8_t* tile, std::byte* out) {
    std::array<std::uint32_t, kGather.kWords> words;
    for (int w = 0; w < kGather.kWords; ++w) {
      const std::uint8_t* from = tile + kGather.of_word[w];
      [&]<std::size_t... F>(std::index_sequence<F...>) {
        words[w] = ((std::uint32_t{from[kGather.of_field[F]]} << (kBits * F)) | ...);
      }
      (std::make_index_sequence<kGather.kFields>{});
    }
    std::memcpy(out, words.data(), sizeof words);
  }

  static void unpack(const std::byte* in, std::uint8_t* tile) {
    std::array<std::uint32_t, kGather.kWords> words;
    std::memcpy(words.data(), in, sizeof words);
    for (int w = 0; w < kGather.kWords; ++w) {
      std::uint8_t* to = tile + kGather.of_word[w];
      [&]<std::size_t... F>(std::index_sequence<F...>) {
        ((to[kGather.of_field[F]] =
              static_cast<std::uint8_t>((words[w] >> (kBits * F)) & ((1u << kBits) - 1))),
         ...);
      }
      (std::make_index_sequence<kGather.kFields>{});
    }
  }

  /// Byte offset of the tile with the code (k, n), n counted in the whole matrix.
  static std::int64_t offset(std::int64_t k, std::int64_t n, N total) {
    return (k / kRows * (total.value / kCols) + n / kCols) * kBytes;
  }
};

/// Packs the tiles of a block that begins at (k0, n0) of the whole matrix.
template <class Tile>
void pack_block(const CodeBlock& block, std::int64_t k0, std::int64_t n0, N total, std::span<std::byte> out) {
  for (int n = 0; n < block.cols; n += Tile::kCols)
    for (int k = 0; k < block.rows; k += Tile::kRows)
      Tile::pack(block.codes.data() + n * kBlockRows + k, out.data() + Tile::offset(k0 + k, n0 + n, total));
}

template <class Tile>
void unpack_block(std::span<const std::byte> words, std::int64_t k0, std::int64_t n0, N total,
                  CodeBlock& block) {
  for (int n = 0; n < block.cols; n += Tile::kCols)
    for (int k = 0; k < block.rows; k += Tile::kRows)
      Tile::unpack(words.data() + Tile::offset(k0 + k, n0 + n, total),
                   block.codes.data() + n * kBlockRows + k);
}

}  // namespace mpk
