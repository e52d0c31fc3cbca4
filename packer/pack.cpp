#include "packer/pack.hpp"

#include "packer/code_block.hpp"

namespace mpk {
namespace {

template <DigitMap kMap, int kBits>
struct MarlinTile {
  static constexpr const auto& kGather = kTileGather<kMap, kBits>;
  static_assert(kTileGather<kMap, kBits>.is_exact());
  static constexpr std::int64_t kBytes = kTileK * kTileN * kBits / 8;

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
    return k / kTileK * (total.value / kTileN * kBytes) + n / kTileN * kBytes;
  }
};

template <class Tile>
void pack_tiles(const Codes& codes, ScalarType type, ColumnWindow window, std::span<std::byte> out) {
  for_each_block(codes, type, window.first, [&](const CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    for (int k = 0; k < block.rows; k += kTileK)
      Tile::pack(block.codes.data() + k, out.data() + Tile::offset(k0 + k, window.first + n0, window.total));
  });
}

template <class Tile>
void unpack_tiles(std::span<const std::byte> words, ColumnWindow window, Codes& codes) {
  fill_blocks(codes, [&](CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    for (int k = 0; k < block.rows; k += kTileK)
      Tile::unpack(words.data() + Tile::offset(k0 + k, window.first + n0, window.total),
                   block.codes.data() + k);
  });
}

using TileU4 = MarlinTile<kMarlinU4, 4>;
using TileU8 = MarlinTile<kMarlinU8, 8>;

void require_tiles(const Codes& codes, ScalarType type, ColumnWindow window, std::size_t bytes) {
  if (type.bits != 4 && type.bits != 8)
    throw Error{ErrorKind::unsupported,
                fmt::format("Marlin packs 4- and 8-bit codes, not {}-bit", type.bits)};
  const K k{codes.rows()};
  const std::int64_t columns[] = {codes.cols(), window.total.value, window.first};
  if (k.value <= 0 || codes.cols() <= 0 || k.value % kTileK != 0 ||
      std::ranges::any_of(columns, [](std::int64_t n) { return n % kTileN != 0; }) || window.first < 0 ||
      window.first + codes.cols() > window.total.value)
    throw Error{ErrorKind::unsupported,
                fmt::format("Marlin packs K % {} == 0 and N % {} == 0; here K = {}, N = {}", kTileK, kTileN,
                            k.value, window.total.value)};
  if (const std::size_t needed = packed_bytes(k, window.total, type); bytes != needed)
    throw Error{ErrorKind::bad_input, fmt::format("K = {}, N = {}, {} bits are {} bytes packed, not {}",
                                                  k.value, window.total.value, type.bits, needed, bytes)};
}

/// 32 codes of kBits each are kBits words.
template <int kBits>
void pack_32(const std::uint8_t* codes, std::uint32_t* words) {
  if constexpr (kBits == 8) {
    std::memcpy(words, codes, 32);
  } else if constexpr (kBits == 4) {  // halve the distance between neighbours until they touch
    for (int w = 0; w < 4; ++w) {
      std::uint64_t x;
      std::memcpy(&x, codes + 8 * w, sizeof x);
      x = (x | x >> 4) & 0x00ff00ff00ff00ffu;
      x = (x | x >> 8) & 0x0000ffff0000ffffu;
      words[w] = static_cast<std::uint32_t>(x | x >> 16);
    }
  } else {
    std::uint64_t waiting = 0;
    int count = 0;
#pragma GCC unroll 32
    for (int i = 0; i < 32; ++i) {
      waiting |= std::uint64_t{codes[i]} << count;
      count += kBits;
      if (count >= 32) {
        *words++ = static_cast<std::uint32_t>(waiting);
        waiting >>= 32;
        count -= 32;
      }
    }
  }
}

template <int kBits>
void unpack_32(const std::uint32_t* words, std::uint8_t* codes) {
  if constexpr (kBits == 8) {
    std::memcpy(codes, words, 32);
  } else if constexpr (kBits == 4) {  // the steps of pack_32, backwards
    for (int w = 0; w < 4; ++w) {
      std::uint64_t x = words[w];
      x = (x | x << 16) & 0x0000ffff0000ffffu;
      x = (x | x << 8) & 0x00ff00ff00ff00ffu;
      x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fu;
      std::memcpy(codes + 8 * w, &x, sizeof x);
    }
  } else {
    std::uint64_t waiting = 0;
    int count = 0;
#pragma GCC unroll 32
    for (int i = 0; i < 32; ++i) {
      if (count < kBits) {
        waiting |= std::uint64_t{*words++} << count;
        count += 32;
      }
      codes[i] = static_cast<std::uint8_t>(waiting & ((1u << kBits) - 1));
      waiting >>= kBits;
      count -= kBits;
    }
  }
}

void require_grid(const Codes& codes, int bits, WordGrid grid, std::int64_t first, std::size_t bytes) {
  const std::int64_t last_word = (WordGrid::words_per_column(K{codes.rows()}, bits) - 1) * grid.row_stride +
                                 (first + codes.cols() - 1) * grid.column_stride;
  if (codes.size() == 0 || first < 0 || last_word < 0 || static_cast<std::size_t>(last_word) >= bytes / 4)
    throw Error{ErrorKind::bad_input,
                fmt::format("columns {} to {} of K = {} {}-bit codes do not lie in {} bytes", first,
                            first + codes.cols(), codes.rows(), bits, bytes)};
}

/// Words of the `rows` codes of a block, of which the last may be fewer than 32.
constexpr int words_of(int rows, int bits) {
  return (rows * bits + 31) / 32;
}

template <int kBits>
void pack_stream(const Codes& codes, WordGrid grid, std::int64_t first, std::span<std::byte> out) {
  constexpr int kWords = kBlockRows / 32 * kBits;
  for_each_block(
      codes, unsigned_integer(kBits), first, [&](const CodeBlock& block, std::int64_t k0, std::int64_t n0) {
        std::array<std::uint32_t, kWords * kBlockCols> words;  // (word, n), or (n, word), as they leave
        const bool down = grid.column_stride == 1;
        const int count = words_of(block.rows, kBits);
        for (int n = 0; n < block.cols; ++n)
          for (int k = 0; k < block.rows; k += 32) {
            std::array<std::uint8_t, 32> run{};
            std::memcpy(run.data(), block.codes.data() + n * kBlockRows + k,
                        static_cast<std::size_t>(std::min(32, block.rows - k)));
            std::uint32_t packed[kBits];
            pack_32<kBits>(run.data(), packed);
            for (int i = 0; i < kBits; ++i) {
              const int word = k / 32 * kBits + i;
              words[static_cast<std::size_t>(down ? word * kBlockCols + n : n * kWords + word)] = packed[i];
            }
          }
        const std::int64_t origin = k0 / 32 * kBits * grid.row_stride + (first + n0) * grid.column_stride;
        const int runs = down ? count : block.cols, length = down ? block.cols : count;
        for (int run = 0; run < runs; ++run)
          std::memcpy(out.data() + 4 * (origin + run * (down ? grid.row_stride : grid.column_stride)),
                      words.data() + run * (down ? kBlockCols : kWords),
                      static_cast<std::size_t>(length) * 4);
      });
}

template <int kBits>
void unpack_stream(std::span<const std::byte> in, WordGrid grid, std::int64_t first, Codes& codes) {
  constexpr int kWords = kBlockRows / 32 * kBits;
  fill_blocks(codes, [&](CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    std::array<std::uint32_t, kWords * kBlockCols> words{};
    const bool down = grid.column_stride == 1;
    const int count = words_of(block.rows, kBits);
    const std::int64_t origin = k0 / 32 * kBits * grid.row_stride + (first + n0) * grid.column_stride;
    const int runs = down ? count : block.cols, length = down ? block.cols : count;
    for (int run = 0; run < runs; ++run)
      std::memcpy(words.data() + run * (down ? kBlockCols : kWords),
                  in.data() + 4 * (origin + run * (down ? grid.row_stride : grid.column_stride)),
                  static_cast<std::size_t>(length) * 4);
    for (int n = 0; n < block.cols; ++n)
      for (int k = 0; k < block.rows; k += 32) {
        std::uint32_t packed[kBits];
        for (int i = 0; i < kBits; ++i) {
          const int word = k / 32 * kBits + i;
          packed[i] = words[static_cast<std::size_t>(down ? word * kBlockCols + n : n * kWords + word)];
        }
        unpack_32<kBits>(packed, block.codes.data() + n * kBlockRows + k);
      }
  });
}

/// Calls work.template operator()<bits>().
template <class Work>
void with_bits(int bits, Work work) {
  switch (bits) {
    case 2:
      return work.template operator()<2>();
    case 3:
      return work.template operator()<3>();
    case 4:
      return work.template operator()<4>();
    case 5:
      return work.template operator()<5>();
    case 6:
      return work.template operator()<6>();
    case 7:
      return work.template operator()<7>();
    case 8:
      return work.template operator()<8>();
    default:
      throw Error{ErrorKind::unsupported, fmt::format("codes have 2 to 8 bits, not {}", bits)};
  }
}

}  // namespace

void pack_marlin(const Codes& codes, ScalarType type, ColumnWindow window, std::span<std::byte> out) {
  require_tiles(codes, type, window, out.size());
  type.bits == 4 ? pack_tiles<TileU4>(codes, type, window, out)
                 : pack_tiles<TileU8>(codes, type, window, out);
}

void unpack_marlin(std::span<const std::byte> words, ScalarType type, ColumnWindow window, Codes& codes) {
  require_tiles(codes, type, window, words.size());
  type.bits == 4 ? unpack_tiles<TileU4>(words, window, codes) : unpack_tiles<TileU8>(words, window, codes);
}

void pack_along_k(const Codes& codes, int bits, WordGrid grid, std::int64_t first_column,
                  std::span<std::byte> out) {
  require_grid(codes, bits, grid, first_column, out.size());
  with_bits(bits, [&]<int kBits>() { pack_stream<kBits>(codes, grid, first_column, out); });
}

void unpack_along_k(std::span<const std::byte> words, int bits, WordGrid grid, std::int64_t first_column,
                    Codes& codes) {
  require_grid(codes, bits, grid, first_column, words.size());
  with_bits(bits, [&]<int kBits>() { unpack_stream<kBits>(words, grid, first_column, codes); });
}

std::uint32_t stream_element(std::span<const std::byte> words, std::int64_t i, int bits) {
  const auto bit = static_cast<std::size_t>(i * bits);
  const std::size_t byte = bit / 8, count = std::min<std::size_t>(2, words.size() - byte);
  std::uint32_t two = 0;  // 8 bits at most lie in two neighbouring bytes
  std::memcpy(&two, words.data() + byte, count);
  return (two >> (bit % 8)) & ((1u << bits) - 1);
}

void add_stream_element(std::span<std::byte> words, std::int64_t i, int bits, std::uint32_t value) {
  const auto bit = static_cast<std::size_t>(i * bits);
  const std::uint32_t two = value << (bit % 8);
  words[bit / 8] |= static_cast<std::byte>(two);
  if ((two >> 8) != 0) words[bit / 8 + 1] |= static_cast<std::byte>(two >> 8);
}

}  // namespace mpk
