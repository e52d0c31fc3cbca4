#include "packer/pack.hpp"

#include "packer/tiles.hpp"

namespace mpk {
namespace {

using TileU4 = Tile<kMarlinU4, 4, kTileK, kTileN>;
using TileU8 = Tile<kMarlinU8, 8, kTileK, kTileN>;
using TileA8U4 = Tile<kMarlinA8U4, 4, kTileA8, kTileA8>;
using TileA8U8 = Tile<kMarlinA8U8, 8, kTileA8, kTileA8>;

/// `prepare(block, k0, n0)` may change the codes before they are packed.
template <class Tile, class Prepare>
void pack_tiles(const Codes& codes, ScalarType type, ColumnWindow window, std::span<std::byte> out,
                RowOrder order, Prepare prepare) {
  for_each_block(
      codes, type, window.first,
      [&](CodeBlock& block, std::int64_t k0, std::int64_t n0) {
        prepare(block, k0, n0);
        pack_block<Tile>(block, k0, window.first + n0, window.total, out);
      },
      order);
}

/// `finish(block, k0, n0)` may change the codes after they were unpacked.
template <class Tile, class Finish>
void unpack_tiles(std::span<const std::byte> words, ColumnWindow window, Codes& codes, RowOrder order,
                  Finish finish) {
  fill_blocks(
      codes,
      [&](CodeBlock& block, std::int64_t k0, std::int64_t n0) {
        unpack_block<Tile>(words, k0, window.first + n0, window.total, block);
        finish(block, k0, n0);
      },
      order);
}

constexpr auto kAsTheyAre = [](CodeBlock&, std::int64_t, std::int64_t) {};

/// Calls change(code, zero) on every code of a block that begins at (k0, n0).
template <class Change>
void change_codes(CodeBlock& block, std::int64_t k0, std::int64_t n0, const Recoding& recoding,
                  Change change) {
  for (int n = 0; n < block.cols; ++n)
    for (int k = 0; k < block.rows;) {
      const std::int64_t group = (k0 + k) / recoding.rows_per_group;
      const auto end =
          static_cast<int>(std::min<std::int64_t>(block.rows, (group + 1) * recoding.rows_per_group - k0));
      const auto zero = static_cast<std::uint8_t>(
          recoding.zero_points ? (*recoding.zero_points)(group, n0 + n) : recoding.zero);
      for (std::uint8_t* code = block.codes.data() + n * kBlockRows; k < end; ++k)
        code[k] = change(code[k], zero);
    }
}

template <class Tile>
void require_tiles(const Codes& codes, ColumnWindow window, RowOrder order, std::size_t bytes) {
  const K k{codes.rows()};
  const std::int64_t columns[] = {codes.cols(), window.total.value, window.first};
  if (k.value <= 0 || codes.cols() <= 0 || k.value % Tile::kRows != 0 ||
      std::ranges::any_of(columns, [](std::int64_t n) { return n % Tile::kCols != 0; }) || window.first < 0 ||
      window.first + codes.cols() > window.total.value)
    throw Error{ErrorKind::unsupported,
                fmt::format("Marlin packs K % {} == 0 and N % {} == 0; here K = {}, N = {}", Tile::kRows,
                            Tile::kCols, k.value, window.total.value)};
  if (const std::size_t needed = packed_bytes(k, window.total, unsigned_integer(Tile::kBits));
      bytes != needed)
    throw Error{ErrorKind::bad_input, fmt::format("K = {}, N = {}, {} bits are {} bytes packed, not {}",
                                                  k.value, window.total.value, Tile::kBits, needed, bytes)};
  if (!order.empty() && std::ssize(order) != k.value)
    throw Error{ErrorKind::bad_input, fmt::format("an order of {} rows for K = {}", order.size(), k.value)};
}

void require_bits(ScalarType type) {
  if (type.bits != 4 && type.bits != 8)
    throw Error{ErrorKind::unsupported,
                fmt::format("Marlin packs 4- and 8-bit codes, not {}-bit", type.bits)};
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

void pack_marlin(const Codes& codes, ScalarType type, ColumnWindow window, std::span<std::byte> out,
                 RowOrder order) {
  const auto pack = [&]<class Tile>(Tile) {
    require_tiles<Tile>(codes, window, order, out.size());
    pack_tiles<Tile>(codes, type, window, out, order, kAsTheyAre);
  };
  require_bits(type);
  type.bits == 4 ? pack(TileU4{}) : pack(TileU8{});
}

void unpack_marlin(std::span<const std::byte> words, ScalarType type, ColumnWindow window, Codes& codes,
                   RowOrder order) {
  const auto unpack = [&]<class Tile>(Tile) {
    require_tiles<Tile>(codes, window, order, words.size());
    unpack_tiles<Tile>(words, window, codes, order, kAsTheyAre);
  };
  require_bits(type);
  type.bits == 4 ? unpack(TileU4{}) : unpack(TileU8{});
}

void pack_marlin_a8(const Codes& codes, ScalarType type, ColumnWindow window, std::span<std::byte> out,
                    const Recoding* recoding) {
  require_bits(type);
  if (type.bits == 8) {
    require_tiles<TileA8U8>(codes, window, {}, out.size());
    return pack_tiles<TileA8U8>(codes, type, window, out, {}, kAsTheyAre);
  }
  require_tiles<TileA8U4>(codes, window, {}, out.size());
  if (!recoding) return pack_tiles<TileA8U4>(codes, type, window, out, {}, kAsTheyAre);
  pack_tiles<TileA8U4>(codes, type, window, out, {}, [&](CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    change_codes(block, k0, n0, *recoding, [](std::uint8_t code, std::uint8_t zero) {
      return static_cast<std::uint8_t>(code >= zero ? code - zero : 15 - code);
    });
  });
}

void unpack_marlin_a8(std::span<const std::byte> words, ScalarType type, ColumnWindow window, Codes& codes,
                      const Recoding* recoding) {
  require_bits(type);
  if (type.bits == 8) {
    require_tiles<TileA8U8>(codes, window, {}, words.size());
    return unpack_tiles<TileA8U8>(words, window, codes, {}, kAsTheyAre);
  }
  require_tiles<TileA8U4>(codes, window, {}, words.size());
  if (!recoding) return unpack_tiles<TileA8U4>(words, window, codes, {}, kAsTheyAre);
  unpack_tiles<TileA8U4>(words, window, codes, {}, [&](CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    change_codes(block, k0, n0, *recoding, [](std::uint8_t code, std::uint8_t zero) {
      return static_cast<std::uint8_t>(code + zero <= 15 ? code + zero : 15 - code);
    });
  });
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

}  // namespace mpk
