#include "packer/unpack.hpp"

#include "packer/code_block.hpp"
#include "packer/pack.hpp"

namespace mpk {
namespace {

template <DigitMap kMap, int kBits>
void unpack_tile(const std::byte* in, std::uint8_t* tile) {
  constexpr const auto& gather = kTileGather<kMap, kBits>;
  std::array<std::uint32_t, gather.kWords> words;
  std::memcpy(words.data(), in, sizeof words);
  for (int w = 0; w < gather.kWords; ++w) {
    std::uint8_t* to = tile + gather.of_word[w];
    [&]<std::size_t... F>(std::index_sequence<F...>) {
      ((to[gather.of_field[F]] = static_cast<std::uint8_t>((words[w] >> (kBits * F)) & ((1u << kBits) - 1))),
       ...);
    }
    (std::make_index_sequence<gather.kFields>{});
  }
}

template <int kBits>
void unpack_run(std::uint32_t word, std::uint8_t* run) {
  if constexpr (kBits == 8) {
    std::memcpy(run, &word, sizeof word);
  } else {  // the steps of pack_run, backwards
    std::uint64_t x = word;
    x = (x | x << 16) & 0x0000ffff0000ffffu;
    x = (x | x << 8) & 0x00ff00ff00ff00ffu;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fu;
    std::memcpy(run, &x, sizeof x);
  }
}

/// Calls unpack_block(block, k0, n0) for every block, rows of blocks in parallel.
template <class UnpackBlock>
Codes from_blocks(K k, N n, UnpackBlock unpack_block) {
  Codes codes(k.value, n.value);
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t k0 = 0; k0 < k.value; k0 += kBlockRows)
    for (std::int64_t n0 = 0; n0 < n.value; n0 += kBlockCols) {
      CodeBlock block;
      block.resize_at(k0, n0, k, n);
      unpack_block(block, k0, n0);
      block.store(codes, k0, n0);
    }
  return codes;
}

template <DigitMap kMap, int kBits>
Codes unpack_tiles(std::span<const std::byte> words, K k, N n) {
  constexpr std::int64_t kTileBytes = kTileK * kTileN * kBits / 8;
  const std::int64_t tile_row_bytes = n.value / kTileN * kTileBytes;
  return from_blocks(k, n, [&](CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    for (int row = 0; row < block.rows; row += kTileK)
      unpack_tile<kMap, kBits>(words.data() + (k0 + row) / kTileK * tile_row_bytes + n0 / kTileN * kTileBytes,
                               block.codes.data() + row);
  });
}

template <int kBits>
Codes unpack_rows(std::span<const std::byte> words, K k, N n) {
  constexpr int kFields = 32 / kBits;
  return from_blocks(k, n, [&](CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    std::array<std::uint32_t, kBlockCols> row;
    for (int k_in = 0; k_in < block.rows; k_in += kFields) {
      std::memcpy(row.data(), words.data() + ((k0 + k_in) / kFields * n.value + n0) * 4,
                  static_cast<std::size_t>(block.cols) * 4);
      for (int col = 0; col < block.cols; ++col)
        unpack_run<kBits>(row[col], block.codes.data() + col * kBlockRows + k_in);
    }
  });
}

}  // namespace

Codes unpack_marlin(std::span<const std::byte> words, K k, N n, ScalarType type) {
  require_packable(k, n, type, words.size(), packed_bytes(k, n, type), kTileK, kTileN, "Marlin");
  return type.bits == 4 ? unpack_tiles<kMarlinU4, 4>(words, k, n) : unpack_tiles<kMarlinU8, 8>(words, k, n);
}

Codes unpack_gptq(std::span<const std::byte> words, K k, N n, ScalarType type) {
  require_packable(k, n, type, words.size(), packed_bytes(k, n, type), 32, 32, "GPTQ");
  return type.bits == 4 ? unpack_rows<4>(words, k, n) : unpack_rows<8>(words, k, n);
}

}  // namespace mpk
