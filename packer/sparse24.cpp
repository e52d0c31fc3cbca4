#include "packer/sparse24.hpp"

#include <array>
#include <atomic>
#include <bit>

#include "packer/tiles.hpp"

namespace mpk {
namespace {

constexpr int kQuad = 4, kQuadsPerMeta = 4;
constexpr int kMetaRows = kQuad * kQuadsPerMeta;         // rows that 16 bits of meta speak of
constexpr int kMetaTileRows = 2 * kMetaRows;             // rows of kMarlin24Meta's tile
constexpr int kMetaTile = kMarlin24Meta.size();          // units of 16 bits
constexpr int kMetasPerColumn = kBlockRows / kMetaRows;  // of a block

/// Which two of four are kept, as first | second << 2, by the mask of codes other than the zero (bit j: row
/// j). Fewer than two leave a choice; this one is the choice of the first packer, whose bytes ours must be.
/// Masks of three or four bits have no answer.
constexpr std::array<std::uint8_t, 16> kKept = [] {
  constexpr auto at = [](int first, int second) { return static_cast<std::uint8_t>(first | second << 2); };
  std::array<std::uint8_t, 16> kept{};
  kept[0b0000] = kept[0b1000] = kept[0b0100] = kept[0b1100] = at(2, 3);
  kept[0b0010] = kept[0b0110] = at(1, 2);
  kept[0b0001] = kept[0b0101] = at(0, 2);
  kept[0b0011] = at(0, 1);
  kept[0b1001] = at(0, 3);
  kept[0b1010] = at(1, 3);
  return kept;
}();

int mask_of(const std::uint8_t* quad, std::uint8_t zero) {
  return (quad[0] != zero) | (quad[1] != zero) << 1 | (quad[2] != zero) << 2 | (quad[3] != zero) << 3;
}
bool has_more_than_two(int mask) {
  return std::popcount(static_cast<unsigned>(mask)) > 2;
}

/// A block's kept codes in its upper half, and their positions.
struct HalfBlock {
  CodeBlock kept;
  std::array<std::uint16_t, kMetasPerColumn * kBlockCols>
      meta;  ///< (16 rows, n) at 16-row index * kBlockCols + n

  /// False if a quad has more than two codes to keep.
  bool compress(const CodeBlock& block, std::uint8_t zero) {
    kept.rows = block.rows / 2;
    kept.cols = block.cols;
    bool fits = true;
    for (int n = 0; n < block.cols; ++n) {
      const std::uint8_t* column = block.codes.data() + n * kBlockRows;
      std::uint8_t* to = kept.codes.data() + n * kBlockRows;
      for (int c = 0; c < block.rows / kMetaRows; ++c) {
        unsigned positions = 0;
        for (int i = 0; i < kQuadsPerMeta; ++i) {
          const std::uint8_t* quad = column + c * kMetaRows + i * kQuad;
          const int mask = mask_of(quad, zero);
          fits &= !has_more_than_two(mask);
          const unsigned two = kKept[static_cast<std::size_t>(mask)];
          *to++ = quad[two & 3u];
          *to++ = quad[two >> 2];
          positions |= two << (4 * i);
        }
        meta[static_cast<std::size_t>(c * kBlockCols + n)] = static_cast<std::uint16_t>(positions);
      }
    }
    return fits;
  }

  /// False if two positions do not ascend.
  bool expand(CodeBlock& block, std::uint8_t zero) const {
    bool ascend = true;
    for (int n = 0; n < block.cols; ++n) {
      std::uint8_t* column = block.codes.data() + n * kBlockRows;
      const std::uint8_t* from = kept.codes.data() + n * kBlockRows;
      std::fill(column, column + block.rows, zero);
      for (int c = 0; c < block.rows / kMetaRows; ++c) {
        const unsigned positions = meta[static_cast<std::size_t>(c * kBlockCols + n)];
        for (int i = 0; i < kQuadsPerMeta; ++i) {
          const unsigned first = positions >> (4 * i) & 3u, second = positions >> (4 * i + 2) & 3u;
          ascend &= first < second;
          std::uint8_t* quad = column + c * kMetaRows + i * kQuad;
          quad[first] = *from++;
          quad[second] = *from++;
        }
      }
    }
    return ascend;
  }
};

/// Byte offset of the positions of rows k .. k + 31 and columns n .. n + 63.
std::int64_t meta_offset(std::int64_t k, std::int64_t n, N total) {
  return (k / kMetaTileRows * (total.value / kTileN) + n / kTileN) * kMetaTile * 2;
}

constexpr auto kMetaOrder = gather_table<kMarlin24Meta>();
constexpr std::size_t meta_index(int tile, int place) {
  const int from = kMetaOrder[static_cast<std::size_t>(place)];
  return static_cast<std::size_t>((2 * tile + from / kTileN) * kBlockCols + from % kTileN);
}

using TileU4 = Tile<kMarlin24U4, 4, kTileK, kTileN>;
using TileU8 = Tile<kMarlin24U8, 8, kTileK, kTileN>;

void require_24(const Codes& codes, ScalarType type, ColumnWindow window, std::size_t words,
                std::size_t meta) {
  if (type != kU4B8 && type != kU8B128)
    throw Error{ErrorKind::unsupported, "2:4 Marlin packs u4b8 and u8b128 codes"};
  const std::int64_t columns[] = {codes.cols(), window.total.value, window.first};
  if (codes.size() == 0 || codes.rows() % kMetaTileRows != 0 ||
      std::ranges::any_of(columns, [](std::int64_t n) { return n % kTileN != 0; }) || window.first < 0 ||
      window.first + codes.cols() > window.total.value)
    throw Error{ErrorKind::unsupported,
                fmt::format("2:4 Marlin packs K % {} == 0 and N % {} == 0; here K = {}, N = {}",
                            kMetaTileRows, kTileN, codes.rows(), window.total.value)};
  const K k{codes.rows()};
  if (words * 2 != packed_bytes(k, window.total, type) || meta != meta_bytes_24(k, window.total))
    throw Error{ErrorKind::bad_input,
                fmt::format("K = {}, N = {}, {} bits are {} bytes of kept codes and {} of positions, not {} "
                            "and {}",
                            k.value, window.total.value, type.bits, packed_bytes(k, window.total, type) / 2,
                            meta_bytes_24(k, window.total), words, meta)};
}

template <class Tile>
void pack(const Codes& codes, ScalarType type, ColumnWindow window, std::span<std::byte> words,
          std::span<std::byte> meta) {
  const auto zero = static_cast<std::uint8_t>(type.bias);
  std::atomic<bool> fits{true};
  for_each_block(codes, type, window.first, [&](const CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    HalfBlock half;
    if (!half.compress(block, zero)) fits = false;
    const std::int64_t n = window.first + n0;
    pack_block<Tile>(half.kept, k0 / 2, n, window.total, words);
    for (int tile = 0; tile < block.rows / kMetaTileRows; ++tile) {
      std::array<std::uint16_t, kMetaTile> units;
      for (int i = 0; i < kMetaTile; ++i) units[static_cast<std::size_t>(i)] = half.meta[meta_index(tile, i)];
      std::memcpy(meta.data() + meta_offset(k0 + tile * kMetaTileRows, n, window.total), units.data(),
                  sizeof units);
    }
  });
  if (fits) return;
  for (std::int64_t n = 0; n < codes.cols(); ++n)
    for (std::int64_t k = 0; k < codes.rows(); k += kQuad)
      if (has_more_than_two(mask_of(codes.data() + n * codes.rows() + k, zero)))
        throw Error{ErrorKind::unsupported,
                    fmt::format("rows {} to {} of column {} have more than two codes other than {}, so the "
                                "matrix is not 2:4 sparse; use format marlin",
                                k, k + kQuad - 1, window.first + n, type.bias)};
}

template <class Tile>
void unpack(std::span<const std::byte> words, std::span<const std::byte> meta, ScalarType type,
            ColumnWindow window, Codes& codes) {
  std::atomic<bool> ascend{true};
  fill_blocks(codes, [&](CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    HalfBlock half;
    half.kept.rows = block.rows / 2;
    half.kept.cols = block.cols;
    const std::int64_t n = window.first + n0;
    unpack_block<Tile>(words, k0 / 2, n, window.total, half.kept);
    for (int tile = 0; tile < block.rows / kMetaTileRows; ++tile) {
      std::array<std::uint16_t, kMetaTile> units;
      std::memcpy(units.data(), meta.data() + meta_offset(k0 + tile * kMetaTileRows, n, window.total),
                  sizeof units);
      for (int i = 0; i < kMetaTile; ++i) half.meta[meta_index(tile, i)] = units[static_cast<std::size_t>(i)];
    }
    if (!half.expand(block, static_cast<std::uint8_t>(type.bias))) ascend = false;
  });
  if (!ascend)
    throw Error{ErrorKind::bad_input,
                fmt::format("in columns {} to {} the two positions of some quad do not ascend", window.first,
                            window.first + codes.cols() - 1)};
}

}  // namespace

bool is_24(const QuantizedMatrix& q) {
  if ((q.scheme.type != kU4B8 && q.scheme.type != kU8B128) || q.scheme.act_order ||
      q.codes.rows() % kQuad != 0)
    return false;
  const auto zero = static_cast<std::uint8_t>(q.scheme.type.bias);
  for (Eigen::Index i = 0; i < q.codes.size(); i += kQuad)
    if (has_more_than_two(mask_of(q.codes.data() + i, zero))) return false;
  return true;
}

void pack_marlin_24(const Codes& codes, ScalarType type, ColumnWindow window, std::span<std::byte> words,
                    std::span<std::byte> meta) {
  require_24(codes, type, window, words.size(), meta.size());
  type == kU4B8 ? pack<TileU4>(codes, type, window, words, meta)
                : pack<TileU8>(codes, type, window, words, meta);
}

void unpack_marlin_24(std::span<const std::byte> words, std::span<const std::byte> meta, ScalarType type,
                      ColumnWindow window, Codes& codes) {
  require_24(codes, type, window, words.size(), meta.size());
  type == kU4B8 ? unpack<TileU4>(words, meta, type, window, codes)
                : unpack<TileU8>(words, meta, type, window, codes);
}

}  // namespace mpk
