#pragma once
// Shared memory serves eight 16-byte accesses at a time without a conflict if they fall into eight different
// 16-byte columns of its 128-byte rows. These permutations make it so for both the copies in and the loads
// out. Index arithmetic only; tests/kernels counts the conflicts.

#include "packer/format/digit_map.hpp"

namespace mpk {

inline constexpr int kChunkBytes = 16;  ///< one cp.async, one ldmatrix row, one 128-bit load

/// Activations, `kChunks` chunks a row. ldmatrix reads one chunk column of eight rows, the copy eight chunks
/// of one row.
template <int kChunks>
constexpr MPK_HOST_DEVICE int activation_chunk(int row, int chunk) {
  static_assert(kChunks % 8 == 0, "rows must fill whole lines of 128 bytes");
  return row * kChunks + (chunk ^ (row % 8));
}

/// Weights. A 4-bit lane reads its one chunk of 32; an 8-bit lane its chunks 2L and 2L + 1, of which eight
/// lanes would meet in four columns: lanes 4 .. 7 of each eight swap theirs.
template <int kBits>
constexpr MPK_HOST_DEVICE int weight_chunk(int chunk) {
  return kBits == 8 ? chunk ^ (chunk / 8 % 2) : chunk;
}

}  // namespace mpk
