#pragma once
// Tiles of a matrix to consecutive words and back: what pack.cpp and sparse24.cpp share. A tile is kRows x
// kCols codes of kBits in the order of kMap; tiles run along n first, then along k.

#include <bit>
#include <span>

#include "packer/code_block.hpp"
#include "packer/index_bits.hpp"
#include "packer/pack.hpp"

namespace mpk {

/// A layout of a tile, taken apart: every 128 neighbouring codes of the packed order are eight runs of 16
/// codes down a column of the block, shuffled alike. Run r of chunk c begins at block index of_chunk[c] +
/// of_run[r]; is_exact checks every code against the layout.
template <DigitMap kMap, int kCols>
struct TileRuns {
  static constexpr int kChunkCodes = kLanes * kRegisters, kChunks = kMap.size() / kChunkCodes;
  IndexBits bits{};  ///< packed order from the runs
  std::array<int, kRegisters> of_run{};
  std::array<int, kChunks> of_chunk{};

  constexpr TileRuns() {
    int known = 0;
    for (int i = 0; i < kIndexBits; ++i) {
      const int stride = block_index(source<kMap>(1 << i), kCols);
      const bool inside = stride < kLanes;
      bits[i] = inside ? std::countr_zero(static_cast<unsigned>(stride)) : kLaneBits + known;
      if (inside) continue;
      for (int run = 0; run < kRegisters; ++run) of_run[run] += (run >> known & 1) * stride;
      if (++known > kRegisterBits) throw "the codes of 128 lie in more than eight runs";
    }
    for (int chunk = 0; chunk < kChunks; ++chunk)
      of_chunk[chunk] = block_index(source<kMap>(chunk * kChunkCodes), kCols);
  }
  constexpr bool is_exact() const {
    for (int code = 0; code < kMap.size(); ++code) {
      const int from = source_index(bits, code % kChunkCodes);
      if (block_index(source<kMap>(code), kCols) !=
          of_chunk[code / kChunkCodes] + of_run[from / kLanes] + from % kLanes)
        return false;
    }
    return true;
  }
};

template <DigitMap kMap, int kCols>
inline constexpr TileRuns<kMap, kCols> kTileRuns{};

/// One code per byte to the words' bytes, kBits each.
template <int kBits>
void store_codes(const Registers& codes, std::byte* out) {
  static_assert(kBits == 4 || kBits == 8);
  if constexpr (kBits == 8) {
    std::memcpy(out, codes.data(), sizeof codes);
  } else {
    using Pairs = std::uint16_t __attribute__((vector_size(kLanes)));
    const auto joined = [](ByteRegister x) {  // the low byte of each pair holds both codes
      const auto pairs = reinterpret_cast<Pairs>(x);
      return reinterpret_cast<ByteRegister>(pairs | pairs >> 4);
    };
    for (std::size_t i = 0; i < kRegisters; i += 2) {
      const ByteRegister a = joined(codes[i]), b = joined(codes[i + 1]);
      [&]<int... I>(std::integer_sequence<int, I...>) {
        const ByteRegister words = __builtin_shufflevector(a, b, 2 * I...);
        std::memcpy(out + i * kLanes / 2, &words, sizeof words);
      }
      (std::make_integer_sequence<int, kLanes>{});
    }
  }
}

template <int kBits>
Registers load_codes(const std::byte* in) {
  static_assert(kBits == 4 || kBits == 8);
  Registers codes;
  if constexpr (kBits == 8) {
    std::memcpy(codes.data(), in, sizeof codes);
  } else {
    for (std::size_t i = 0; i < kRegisters; i += 2) {
      ByteRegister words;
      std::memcpy(&words, in + i * kLanes / 2, sizeof words);
      const ByteRegister low = words & 15, high = words >> 4;
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        codes[i] = __builtin_shufflevector(low, high, interleaved(I, 0, 0)...);
        codes[i + 1] = __builtin_shufflevector(low, high, interleaved(I, 0, 1)...);
      }
      (std::make_index_sequence<kLanes>{});
    }
  }
  return codes;
}

template <DigitMap kMap, int kBits_, int kRows_, int kCols_>
struct Tile {
  static constexpr int kBits = kBits_, kRows = kRows_, kCols = kCols_;
  static constexpr const auto& kRuns = kTileRuns<kMap, kCols>;
  static_assert(kMap.size() == kRows * kCols && kRuns.is_exact());
  static_assert(kBlockRows % kRows == 0 && kBlockCols % kCols == 0 && kRows % kTileK == 0);
  static constexpr std::int64_t kBytes = kRows * kCols * kBits / 8;
  static constexpr int kChunkBytes = kRuns.kChunkCodes * kBits / 8;

  /// The tile whose first code stands at `tile`, as words at `out`.
  static void pack(const std::uint8_t* tile, std::byte* out) {
    for (int chunk = 0; chunk < kRuns.kChunks; ++chunk) {
      Registers runs;
      for (int run = 0; run < kRegisters; ++run)
        std::memcpy(&runs[run], tile + kRuns.of_chunk[chunk] + kRuns.of_run[run], kLanes);
      store_codes<kBits>(shuffle<kRuns.bits>(runs), out + chunk * kChunkBytes);
    }
  }

  static void unpack(const std::byte* in, std::uint8_t* tile) {
    for (int chunk = 0; chunk < kRuns.kChunks; ++chunk) {
      const Registers runs = shuffle<inverse(kRuns.bits)>(load_codes<kBits>(in + chunk * kChunkBytes));
      for (int run = 0; run < kRegisters; ++run)
        std::memcpy(tile + kRuns.of_chunk[chunk] + kRuns.of_run[run], &runs[run], kLanes);
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
