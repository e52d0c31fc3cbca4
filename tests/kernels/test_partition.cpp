#include <set>
#include <vector>

#include "kernels/partition.hpp"
#include "tests/support/catch.hpp"

using mpk::Partition;

TEST_CASE("every unit of work belongs to one block, in stripes of equal length", "[kernels]") {
  const int tiles_m = GENERATE(1, 2, 7), tiles_n = GENERATE(1, 3, 32), stages = GENERATE(1, 2, 5, 32, 224);
  const int max_blocks = GENERATE(1, 2, 7, 108, 132, 264);
  const Partition p{tiles_m, tiles_n, stages, max_blocks};
  CAPTURE(tiles_m, tiles_n, stages, max_blocks);
  REQUIRE((p.blocks >= 1 && p.blocks <= max_blocks && p.blocks <= p.units()));
  REQUIRE(p.begin(0) == 0);
  REQUIRE(p.end(p.blocks - 1) == p.units());
  bool even = true, found = true;
  for (int block = 0; block < p.blocks; ++block) {
    const int length = p.end(block) - p.begin(block);
    even = even && (length == p.stripe || length == p.stripe + 1) && length > 0;
    for (int unit = p.begin(block); unit < p.end(block); ++unit) found = found && p.block_of(unit) == block;
  }
  REQUIRE(even);
  REQUIRE(found);
}

TEST_CASE("the blocks that meet in a tile are neighbours, and their slots are their own", "[kernels]") {
  const int tiles_m = GENERATE(1, 3), tiles_n = GENERATE(1, 5, 32), stages = GENERATE(1, 3, 32, 100);
  const int max_blocks = GENERATE(1, 2, 13, 132, 264, 5000);
  const Partition p{tiles_m, tiles_n, stages, max_blocks};
  CAPTURE(tiles_m, tiles_n, stages, max_blocks);

  std::vector<std::set<int>> meeting(static_cast<std::size_t>(p.tiles()));  // by walking, as the blocks do
  for (int block = 0; block < p.blocks; ++block)
    for (int unit = p.begin(block); unit < p.end(block); ++unit)
      meeting[static_cast<std::size_t>(unit / stages)].insert(block);

  std::set<int> slots;
  std::size_t partial_sums = 0;
  for (int tile = 0; tile < p.tiles(); ++tile) {
    const std::set<int>& blocks = meeting[static_cast<std::size_t>(tile)];
    REQUIRE(p.first_block(tile) == *blocks.begin());
    REQUIRE(p.last_block(tile) == *blocks.rbegin());
    REQUIRE(blocks.size() == static_cast<std::size_t>(*blocks.rbegin() - *blocks.begin() + 1));
    if (blocks.size() == 1) continue;
    for (int block : blocks) {
      const int slot = p.slot(block, tile);
      REQUIRE((slot >= 0 && slot < p.slots()));
      slots.insert(slot);
      ++partial_sums;
    }
  }
  REQUIRE(slots.size() == partial_sums);
}
