#include "packer/pack.hpp"

#include <atomic>

#include "packer/code_block.hpp"

namespace mpk {
namespace {

/// The tile whose first code stands at `tile`, as kWords words at `out`.
template <DigitMap kMap, int kBits>
void pack_tile(const std::uint8_t* tile, std::byte* out) {
  constexpr const auto& gather = kTileGather<kMap, kBits>;
  std::array<std::uint32_t, gather.kWords> words;
  for (int w = 0; w < gather.kWords; ++w) {
    const std::uint8_t* from = tile + gather.of_word[w];
    [&]<std::size_t... F>(std::index_sequence<F...>) {
      words[w] = ((std::uint32_t{from[gather.of_field[F]]} << (kBits * F)) | ...);
    }
    (std::make_index_sequence<gather.kFields>{});
  }
  std::memcpy(out, words.data(), sizeof words);
}

/// Eight (4 bit) or four (8 bit) consecutive k of one column as a word.
template <int kBits>
std::uint32_t pack_run(const std::uint8_t* run) {
  if constexpr (kBits == 8) {
    std::uint32_t word;
    std::memcpy(&word, run, sizeof word);
    return word;
  } else {  // halve the distance between neighbours until they touch
    std::uint64_t x;
    std::memcpy(&x, run, sizeof x);
    x = (x | x >> 4) & 0x00ff00ff00ff00ffu;
    x = (x | x >> 8) & 0x0000ffff0000ffffu;
    return static_cast<std::uint32_t>(x | x >> 16);
  }
}

/// Calls pack_block(block, k0, n0) for every block, rows of blocks in parallel, and refuses codes above the
/// maximum.
template <class PackBlock>
void for_each_block(const Codes& codes, ScalarType type, PackBlock pack_block) {
  std::atomic<bool> in_range{true};
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t k0 = 0; k0 < codes.rows(); k0 += kBlockRows)
    for (std::int64_t n0 = 0; n0 < codes.cols(); n0 += kBlockCols) {
      CodeBlock block;
      if (!block.load(codes, k0, n0, type.max_code())) in_range = false;
      pack_block(block, k0, n0);
    }
  if (in_range) return;
  for (std::int64_t n = 0; n < codes.cols(); ++n)
    for (std::int64_t k = 0; k < codes.rows(); ++k)
      if (codes(k, n) > type.max_code())
        throw Error{ErrorKind::bad_input,
                    fmt::format("code {} at (k, n) = ({}, {}) is above {}, the largest of {} bits",
                                codes(k, n), k, n, type.max_code(), type.bits)};
}

template <DigitMap kMap, int kBits>
void pack_tiles(const Codes& codes, ScalarType type, std::span<std::byte> out) {
  constexpr std::int64_t kTileBytes = kTileK * kTileN * kBits / 8;
  const std::int64_t tile_row_bytes = codes.cols() / kTileN * kTileBytes;
  for_each_block(codes, type, [&](const CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    for (int k = 0; k < block.rows; k += kTileK)
      pack_tile<kMap, kBits>(block.codes.data() + k,
                             out.data() + (k0 + k) / kTileK * tile_row_bytes + n0 / kTileN * kTileBytes);
  });
}

template <int kBits>
void pack_rows(const Codes& codes, ScalarType type, std::span<std::byte> out) {
  constexpr int kFields = 32 / kBits;
  for_each_block(codes, type, [&](const CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    std::array<std::uint32_t, kBlockCols> row;
    for (int k = 0; k < block.rows; k += kFields) {
      for (int n = 0; n < block.cols; ++n) row[n] = pack_run<kBits>(block.codes.data() + n * kBlockRows + k);
      std::memcpy(out.data() + ((k0 + k) / kFields * codes.cols() + n0) * 4, row.data(),
                  static_cast<std::size_t>(block.cols) * 4);
    }
  });
}

}  // namespace

void pack_marlin(const Codes& codes, ScalarType type, std::span<std::byte> out) {
  const K k{codes.rows()};
  const N n{codes.cols()};
  require_packable(k, n, type, out.size(), packed_bytes(k, n, type), kTileK, kTileN, "Marlin");
  type.bits == 4 ? pack_tiles<kMarlinU4, 4>(codes, type, out) : pack_tiles<kMarlinU8, 8>(codes, type, out);
}

void pack_gptq(const Codes& codes, ScalarType type, std::span<std::byte> out) {
  const K k{codes.rows()};
  const N n{codes.cols()};
  require_packable(k, n, type, out.size(), packed_bytes(k, n, type), 32, 32, "GPTQ");
  type.bits == 4 ? pack_rows<4>(codes, type, out) : pack_rows<8>(codes, type, out);
}

}  // namespace mpk
