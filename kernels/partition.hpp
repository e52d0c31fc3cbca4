#pragma once
// Who computes what. The GEMM's work is a line of units: one unit is one k-stage of one output tile, the
// stages of a tile are neighbours, and tiles run along m first so that neighbours read the same weights from
// the L2 cache. Tiles are dealt to the blocks in full waves as long as there are enough; blocks that then run
// side by side share weights and activations in the cache. What is left is cut: into stripes, all equally
// long but for one unit, wherever tile borders fall ("stream-K"), or every tile into the same number of
// parts.
//
// A tile that one block covers is written by it. Of a tile that several share, each block leaves its float
// partial in a slot of its own, and whoever arrives last adds the slots in the order of the blocks: the sum
// does not depend on timing, so repeats are bit-identical.

#include <algorithm>

#include "kernels/divisor.hpp"
#include "packer/format/digit_map.hpp"

namespace mpk {

struct Partition {
  Divisor tiles_m, tiles_n, stages_per_tile;
  Divisor blocks;
  int waves = 0;       ///< whole tiles of every block: b, b + blocks, ...
  int cut_blocks = 1;  ///< blocks that share the tiles behind those
  int parts = 0;       ///< of each of these; 0: stripes
  /// Units of a stripe, of a tile's part; the first `longer` stripes, or parts, have one more.
  Divisor stripe, longer_stripe = 2, parts_of_tile;
  int longer = 0;

  constexpr Partition() = default;
  /// Stripes from the first tile on. No more blocks than units.
  constexpr Partition(int m, int n, int stages, int max_blocks)
      : tiles_m{m}, tiles_n{n}, stages_per_tile{stages} {
    blocks = std::min(max_blocks, units());
    cut_into_stripes(blocks);
  }
  /// `num_waves` waves of `num_blocks` whole tiles; every tile left is shared by `num_parts` blocks (at most
  /// one a stage), or they are cut into a stripe for every block if that is 0.
  constexpr Partition(int m, int n, int stages, int num_blocks, int num_waves, int num_parts)
      : tiles_m{m},
        tiles_n{n},
        stages_per_tile{stages},
        blocks{num_blocks},
        waves{num_waves},
        parts{num_parts} {
    if (parts == 0) {
      cut_into_stripes(std::min<int>(blocks, cut_units()));
    } else {
      cut_blocks = cut_tiles() * parts;
      parts_of_tile = parts;
      cut(stages, parts);
    }
  }
  constexpr MPK_HOST_DEVICE int tiles() const { return tiles_m * tiles_n; }
  constexpr MPK_HOST_DEVICE int units() const { return tiles() * stages_per_tile; }
  constexpr MPK_HOST_DEVICE int whole_tiles() const { return waves * blocks; }
  constexpr MPK_HOST_DEVICE int cut_tiles() const { return tiles() - whole_tiles(); }
  constexpr MPK_HOST_DEVICE int cut_units() const { return cut_tiles() * stages_per_tile; }

  /// Units [begin, begin + length) of the cut tiles are this block's.
  constexpr MPK_HOST_DEVICE int begin(int block) const {
    if (block >= cut_blocks) return cut_units();
    const int tile = tile_cut_for(block), piece = block - tile * parts;
    return tile * stages_per_tile + stripe * piece + (piece < longer ? piece : longer);
  }
  constexpr MPK_HOST_DEVICE int length(int block) const {
    if (block >= cut_blocks) return 0;
    return stripe + (block - tile_cut_for(block) * parts < longer ? 1 : 0);
  }
  constexpr MPK_HOST_DEVICE int end(int block) const { return begin(block) + length(block); }
  /// Whose stripe a unit of the cut tiles is in.
  constexpr MPK_HOST_DEVICE int block_of(int unit) const {
    const int in_longer = longer * longer_stripe;
    return unit < in_longer ? unit / longer_stripe : longer + (unit - in_longer) / stripe;
  }
  /// The blocks that share a tile.
  constexpr MPK_HOST_DEVICE int first_block(int tile) const {
    if (tile < whole_tiles()) return tile % blocks;
    const int cut = tile - whole_tiles();
    return parts > 0 ? cut * parts : block_of(cut * stages_per_tile);
  }
  constexpr MPK_HOST_DEVICE int last_block(int tile) const {
    if (tile < whole_tiles()) return tile % blocks;
    const int cut = tile - whole_tiles();
    return parts > 0 ? cut * parts + parts - 1 : block_of((cut + 1) * stages_per_tile - 1);
  }

  /// A stripe cuts at most two tiles: the one it begins in and the one it ends in.
  static constexpr int kSlotsPerBlock = 2;
  constexpr MPK_HOST_DEVICE int slots() const { return kSlotsPerBlock * cut_blocks; }
  constexpr MPK_HOST_DEVICE int slot(int block, int tile) const {
    return kSlotsPerBlock * block +
           (begin(block) >= (tile - whole_tiles()) * stages_per_tile ? 0 : 1);  // does it begin in this one?
  }

 private:
  /// Where tiles are cut into parts: which of them.
  constexpr MPK_HOST_DEVICE int tile_cut_for(int block) const {
    return parts > 0 ? block / parts_of_tile : 0;
  }
  constexpr void cut_into_stripes(int num_blocks) {
    cut_blocks = num_blocks;
    if (num_blocks > 0) cut(cut_units(), num_blocks);
  }
  /// `num_units`, at least one for everybody, into `pieces`.
  constexpr void cut(int num_units, int pieces) {
    stripe = num_units / pieces;
    longer = num_units % pieces;
    longer_stripe = stripe + 1;
  }
};

}  // namespace mpk
