#include <algorithm>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "kernels/hopper/plan.hpp"
#include "kernels/partition.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

TEST_CASE("a divisor divides", "[kernels]") {
  std::mt19937 rng{mpk::test::seed()};
  std::uniform_int_distribution<int> any{0, std::numeric_limits<int>::max()}, bits{0, 30};
  const auto check = [](int n, int d) {
    CAPTURE(n, d);
    REQUIRE(n / Divisor{d} == n / d);
    REQUIRE(n % Divisor{d} == n % d);
  };
  for (int round = 0; round < 20000; ++round) {
    const int d = std::max(1, any(rng) >> bits(rng));
    for (const int n : {0, d - 1, any(rng), any(rng) >> bits(rng), std::numeric_limits<int>::max()})
      check(n, d);
    if (d < 1 << 15) check(d * (any(rng) >> 16) - 1 + (round % 2), d);  // beside a multiple
  }
  for (int shift = 0; shift < 31; ++shift)
    for (const int off : {-1, 0, 1})
      if (const int d = (1 << shift) + off; d > 0) check(std::numeric_limits<int>::max(), d);
}

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

namespace {

struct Owner {
  int block;
  int times = 0;
};
/// Who computes every unit, by walking as the blocks do: first whole tiles in waves, then units of the cut
/// ones.
std::vector<Owner> owners(const Partition& p) {
  std::vector<Owner> units(static_cast<std::size_t>(p.units()), Owner{-1});
  const auto take = [&](int block, int unit) {
    Owner& owner = units.at(static_cast<std::size_t>(unit));
    owner.block = block;
    ++owner.times;
  };
  for (int block = 0; block < p.blocks; ++block) {
    for (int wave = 0; wave < p.waves; ++wave)
      for (int stage = 0; stage < p.stages_per_tile; ++stage)
        take(block, (wave * p.blocks + block) * p.stages_per_tile + stage);
    for (int unit = p.begin(block); unit < p.end(block); ++unit)
      take(block, p.whole_tiles() * p.stages_per_tile + unit);
  }
  return units;
}

/// What the kernels rely on, whoever made the partition.
void check_partition(const Partition& p) {
  const std::vector<Owner> units = owners(p);
  REQUIRE(std::ranges::all_of(units, [](const Owner& owner) { return owner.times == 1; }));
  REQUIRE(p.cut_blocks <= p.blocks);
  if (p.parts > 0) REQUIRE(p.blocks % p.parts == 0);  // a cluster each
  std::set<int> slots;
  std::size_t partial_sums = 0;
  for (int tile = 0; tile < p.tiles(); ++tile) {
    std::set<int> blocks;
    for (int stage = 0; stage < p.stages_per_tile; ++stage)
      blocks.insert(units[static_cast<std::size_t>(tile * p.stages_per_tile + stage)].block);
    const int first = p.first_block(tile), last = p.last_block(tile);
    REQUIRE(first == *blocks.begin());
    REQUIRE(last == *blocks.rbegin());
    REQUIRE(blocks.size() == static_cast<std::size_t>(last - first + 1));
    if (tile < p.whole_tiles()) {
      REQUIRE(first == last);
    } else if (p.parts > 0) {
      REQUIRE(first % p.parts == 0);
      REQUIRE(last == first + p.parts - 1);
    } else if (first != last) {
      for (int block = first; block <= last; ++block) {
        const int slot = p.slot(block, tile);
        REQUIRE((slot >= 0 && slot < p.slots()));
        slots.insert(slot);
        ++partial_sums;
      }
    }
  }
  REQUIRE(slots.size() == partial_sums);
}

}  // namespace

TEST_CASE("waves of whole tiles, and stripes of what is left", "[kernels]") {
  const int tiles_m = GENERATE(1, 3), tiles_n = GENERATE(5, 32, 130), stages = GENERATE(1, 5, 32);
  const int blocks = GENERATE(1, 4, 7, 132);
  const int tiles = tiles_m * tiles_n;
  for (const int waves : {0, 1, tiles / blocks}) {
    if (waves * blocks >= tiles) continue;  // nothing left to cut
    CAPTURE(tiles_m, tiles_n, stages, blocks, waves);
    // Every block of a launch needs a unit.
    const int used = waves > 0 ? blocks : std::min(blocks, tiles * stages);
    check_partition(Partition{tiles_m, tiles_n, stages, used, waves, 0});
  }
}

TEST_CASE("every tile that waves leave in as many parts", "[kernels]") {
  const int tiles_n = GENERATE(1, 5, 33), stages = GENERATE(1, 2, 5, 32), parts = GENERATE(1, 2, 3, 8);
  const int waves = GENERATE(0, 1, 2), cut = GENERATE(0, 1, 3);
  if (parts > stages) return;  // at most one a stage
  const int blocks = (waves > 0 ? tiles_n : cut) * parts;
  if (blocks == 0 || cut * parts > blocks) return;
  CAPTURE(tiles_n, stages, parts, waves, cut);
  const Partition p{1, waves * blocks + cut, stages, blocks, waves, parts};
  check_partition(p);
  for (int block = 0; block < p.cut_blocks; ++block) {
    const int length = p.end(block) - p.begin(block);
    REQUIRE((length == stages / parts || length == (stages + parts - 1) / parts));
  }
}

TEST_CASE("every choice for Hopper divides all of the work, and fits the GPU", "[kernels]") {
  const std::vector<HopperTile> rows{{4, 8, 64, 128, 2, 14, true, 0.2, 0.3},
                                     {4, 16, 128, 128, 2, 7, true, 0.3, 0.5},
                                     {4, 32, 256, 128, 1, 6, true, 0.6, 0.0},
                                     {4, 64, 128, 128, 1, 6, true, 0.5, 0.0},
                                     {4, 256, 128, 64, 1, 4, false, 1.3, 0.0}};
  GpuTraits gpu{90, 132};
  const bool clusters = GENERATE(false, true);
  if (clusters)  // as an H200 answers
    gpu.clusters = {{{0, 132, 66, 39, 30, 22, 17, 15, 15}, {0, 264, 132, 79, 62, 47, 39, 32, 30}}};
  const auto [k, n] =
      GENERATE(table<int, int>({{64, 64}, {144, 320}, {4096, 4096}, {4096, 28672}, {28672, 8192}}));
  for (const int m : {1, 8, 9, 16, 17, 64, 65, 300, 4096}) {
    const std::vector<HopperChoice> choices = hopper_choices(rows, K{k}, N{n}, M{m}, gpu);
    std::set<int> chosen;
    for (const HopperChoice& choice : choices) {
      CAPTURE(clusters, k, n, m, choice.row);
      REQUIRE((choice.row >= 0 && choice.row < static_cast<int>(rows.size())));
      REQUIRE(choice.microseconds > 0);
      chosen.insert(choice.row);
      const HopperTile& tile = rows[static_cast<std::size_t>(choice.row)];
      const Partition& p = choice.partition;
      REQUIRE(p.tiles_m == (m + tile.m - 1) / tile.m);
      REQUIRE(p.tiles_n == (n + tile.n - 1) / tile.n);
      REQUIRE(p.stages_per_tile == (k + tile.k - 1) / tile.k);
      REQUIRE(p.blocks <= gpu.num_sms * tile.blocks_per_sm);
      if (p.parts > 1) {
        REQUIRE(clusters);
        REQUIRE(p.blocks / p.parts <= gpu.clusters[static_cast<std::size_t>(tile.blocks_per_sm - 1)]
                                                  [static_cast<std::size_t>(p.parts)]);
      }
      if (p.units() < 100000) check_partition(p);
    }
    REQUIRE(chosen.size() == rows.size());
  }
}

TEST_CASE("there is no choice for Hopper that the device cannot count", "[kernels]") {
  const std::vector<HopperTile> rows{{4, 16, 256, 128, 1, 4, true, 0.5, 0.0},
                                     {4, 128, 256, 128, 1, 4, false, 1.3, 0.0}};
  const GpuTraits gpu{90, 132};
  // 2^29 rows of activations are 2^22 tiles of 128, and 2^25 of 16.
  const M m{1 << 29};
  for (const HopperChoice& choice : hopper_choices(rows, K{128 * 64}, N{256}, m, gpu))
    REQUIRE(choice.row == 1);
  REQUIRE(!hopper_choices(rows, K{128 * 64}, N{256}, m, gpu).empty());
  REQUIRE(hopper_choices(rows, K{128 * 1024}, N{256}, m, gpu).empty());
}
