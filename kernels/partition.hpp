#pragma once
// Who computes what. The GEMM's work is a line of units: one unit is one k-stage of one output tile, the
// stages of a tile are neighbours, and tiles run along m first so that neighbours read the same weights from
// the L2 cache. Every block takes one stripe of that line, all equally long but for one unit, wherever tile
// borders fall ("stream-K").
//
// A tile that one block covers is written by it. Of a tile that several share, each block leaves its float
// partial in a slot of its own, and whoever arrives last adds the slots in the order of the blocks: the sum
// does not depend on timing, so repeats are bit-identical.

#include "packer/format/digit_map.hpp"

namespace mpk {

struct Partition {
  int tiles_m = 1, tiles_n = 1, stages_per_tile = 1;
  int blocks = 1;
  int stripe = 1, longer = 0;  ///< units of a stripe; the first `longer` stripes have one more

  constexpr Partition() = default;
  /// No more blocks than units.
  constexpr Partition(int m, int n, int stages, int max_blocks)
      : tiles_m{m}, tiles_n{n}, stages_per_tile{stages} {
    blocks = max_blocks < units() ? max_blocks : units();
    stripe = units() / blocks;
    longer = units() % blocks;
  }
  constexpr MPK_HOST_DEVICE int tiles() const { return tiles_m * tiles_n; }
  constexpr MPK_HOST_DEVICE int units() const { return tiles() * stages_per_tile; }

  constexpr MPK_HOST_DEVICE int begin(int block) const {
    return stripe * block + (block < longer ? block : longer);
  }
  constexpr MPK_HOST_DEVICE int end(int block) const { return begin(block + 1); }
  constexpr MPK_HOST_DEVICE int block_of(int unit) const {
    const int in_longer = longer * (stripe + 1);
    return unit < in_longer ? unit / (stripe + 1) : longer + (unit - in_longer) / stripe;
  }
  constexpr MPK_HOST_DEVICE int first_block(int tile) const { return block_of(tile * stages_per_tile); }
  constexpr MPK_HOST_DEVICE int last_block(int tile) const {
    return block_of((tile + 1) * stages_per_tile - 1);
  }

  /// A stripe cuts at most two tiles: the one it begins in and the one it ends in.
  static constexpr int kSlotsPerBlock = 2;
  constexpr MPK_HOST_DEVICE int slots() const { return kSlotsPerBlock * blocks; }
  constexpr MPK_HOST_DEVICE int slot(int block, int tile) const {
    return kSlotsPerBlock * block +
           (begin(block) >= tile * stages_per_tile ? 0 : 1);  // does it begin in this one?
  }
};

}  // namespace mpk
