#pragma once
// Up to 256 x 64 codes in a buffer of their own. A (K, N) matrix is column-major with K often a power of two:
// the columns of one tile fall into the same cache set and on 64 pages. So long runs are fetched once, into
// here, and packed from here.

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/layouts.hpp"
#include "packer/format/quantized_matrix.hpp"
#include "packer/pack.hpp"

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
  /// Reads the block at (k0, n0), row k from row order[k] unless `order` is empty; false if one of its codes
  /// is above max_code. Past the last row it reads 0 up to the next multiple of kTileK.
  bool load(const Codes& from, RowOrder order, std::int64_t k0, std::int64_t n0, int max_code) {
    if (order.empty()) return load(from, k0, n0, max_code);
    resize_at(k0, n0, K{from.rows()}, N{from.cols()});
    int all = 0;
    for (int n = 0; n < cols; ++n) {
      const std::uint8_t* column = from.data() + (n0 + n) * from.rows();
      for (int k = 0; k < rows; ++k) {
        const std::uint8_t code = column[order[static_cast<std::size_t>(k0 + k)]];
        codes[static_cast<std::size_t>(n * kBlockRows + k)] = code;
        all |= code;
      }
      const int padded = (rows + kTileK - 1) / kTileK * kTileK;
      std::fill(codes.data() + n * kBlockRows + rows, codes.data() + n * kBlockRows + padded,
                std::uint8_t{0});
    }
    return all <= max_code;
  }
  bool load(const Codes& from, std::int64_t k0, std::int64_t n0, int max_code) {
    resize_at(k0, n0, K{from.rows()}, N{from.cols()});
    const int padded = (rows + kTileK - 1) / kTileK * kTileK;
    std::uint64_t all = 0;
    for (int n = 0; n < cols; ++n) {
      const std::uint8_t* column = from.data() + (n0 + n) * from.rows() + k0;
      std::uint8_t* to = codes.data() + n * kBlockRows;
      if (rows == kBlockRows) {
        all |= copy_run<kBlockRows>(column, to);
        continue;
      }
      int k = 0;
      for (; k + kTileK <= rows; k += kTileK) all |= copy_run<kTileK>(column + k, to + k);
      for (; k < padded; ++k) all |= to[k] = k < rows ? column[k] : std::uint8_t{0};
    }
    const std::uint64_t too_large = 0x0101010101010101u * static_cast<std::uint64_t>(255 - max_code);
    return (all & too_large) == 0;  // max_code is 2^bits - 1
  }
  void store(Codes& to, RowOrder order, std::int64_t k0, std::int64_t n0) const {
    if (order.empty()) return store(to, k0, n0);
    for (int n = 0; n < cols; ++n) {
      std::uint8_t* column = to.data() + (n0 + n) * to.rows();
      for (int k = 0; k < rows; ++k)
        column[order[static_cast<std::size_t>(k0 + k)]] = codes[static_cast<std::size_t>(n * kBlockRows + k)];
    }
  }
  void store(Codes& to, std::int64_t k0, std::int64_t n0) const {
    for (int n = 0; n < cols; ++n)
      std::memcpy(to.data() + (n0 + n) * to.rows() + k0, codes.data() + n * kBlockRows,
                  static_cast<std::size_t>(rows));
  }

 private:
  /// Returns the OR of all codes, eight at a time. The length is the compiler's to know.
  template <int kCount>
  static std::uint64_t copy_run(const std::uint8_t* from, std::uint8_t* to) {
    std::array<std::uint64_t, kCount / 8> run;
    std::memcpy(run.data(), from, sizeof run);
    std::memcpy(to, run.data(), sizeof run);
    std::uint64_t all = 0;
    for (std::uint64_t x : run) all |= x;
    return all;
  }
};

/// Tile code (k, n) is source index k * tile_cols + n of a layout; this is its place in a block that begins
/// with the tile.
constexpr int block_index(int tile_source, int tile_cols) {
  return tile_source % tile_cols * kBlockRows + tile_source / tile_cols;
}

/// Calls use(block, k0, n0) for every block of `codes`, in parallel, and refuses codes above the type's
/// maximum; the message counts columns from first_column. The block is a copy that `use` may change.
template <class Use>
void for_each_block(const Codes& codes, ScalarType type, std::int64_t first_column, Use use,
                    RowOrder order = {}) {
  std::atomic<bool> in_range{true};
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t k0 = 0; k0 < codes.rows(); k0 += kBlockRows)
    for (std::int64_t n0 = 0; n0 < codes.cols(); n0 += kBlockCols) {
      CodeBlock block;
      if (!block.load(codes, order, k0, n0, type.max_code())) in_range = false;
      use(block, k0, n0);
    }
  if (in_range) return;
  for (std::int64_t n = 0; n < codes.cols(); ++n)
    for (std::int64_t k = 0; k < codes.rows(); ++k)
      if (codes(k, n) > type.max_code())
        throw Error{ErrorKind::bad_input,
                    fmt::format("code {} at (k, n) = ({}, {}) is above {}, the largest of {} bits",
                                codes(k, n), k, first_column + n, type.max_code(), type.bits)};
}

/// Calls fill(block, k0, n0) for every block and stores what it filled in.
template <class Fill>
void fill_blocks(Codes& codes, Fill fill, RowOrder order = {}) {
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t k0 = 0; k0 < codes.rows(); k0 += kBlockRows)
    for (std::int64_t n0 = 0; n0 < codes.cols(); n0 += kBlockCols) {
      CodeBlock block;
      block.resize_at(k0, n0, K{codes.rows()}, N{codes.cols()});
      fill(block, k0, n0);
      block.store(codes, order, k0, n0);
    }
}

}  // namespace mpk
