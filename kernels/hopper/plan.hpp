#pragma once
// Which kernel, and who computes what: the cheapest by a small model of what was measured on an H200 (132
// multiprocessors). Plain C++, so that it can be tested without a GPU. A wrong guess costs
// time, never correctness.

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "kernels/gemm.hpp"

namespace mpk {

/// What the model knows of a row of the table.
struct HopperTile {
  int bits;
  int m, n, k;  ///< of a block's tile; k of one stage
  int blocks_per_sm;
  int ring;                      ///< stages that are under way before the kernel in front has ended
  bool pushes;                   ///< sums go to the other blocks of a cluster without being asked for
  double alone, beside_another;  ///< microseconds for 128 rows of K, words in the cache
};

struct HopperChoice {
  int row;
  Partition partition;
  double microseconds;
};

namespace model {

/// Of device memory, where it keeps several launches busy, and of the cache.
inline constexpr double kBytesPerMicrosecond = 4.9e6, kCachedBytesPerMicrosecond = 9.5e6;
inline constexpr double kStart = 1.95;
/// Later, where the next launch's blocks find no place to fill their rings in while this one's are at work.
inline constexpr double kNoPlaceLeft = 0.4;

/// Time to decode so many weights, beside u4b8's in f16.
constexpr double decode(Weight weight, Float activations) {
  switch (weight) {
    case Weight::u4:
    case Weight::u4_float_zeros:
      return 0.97;
    case Weight::nvfp4:
      return activations == Float::f16 ? 1.27 : 1.39;
    case Weight::mxfp4:
      return 1.24;
    case Weight::u8b128:
    case Weight::e4m3:
      return 2.0;
    case Weight::u4b8:
      break;
  }
  return 1.0;
}
/// HopperTile::alone and beside_another of u4b8 and f16 by m and n, and the part of them that is decoding.
struct StageTimes {
  int m, n;
  double alone, beside_another, decoding;
};
inline constexpr StageTimes kStages16[] = {
    {8, 64, 0.16, 0.215, 0.74},  {8, 128, 0.25, 0.415, 0.74}, {16, 64, 0.20, 0.272, 0.83},
    {16, 128, 0.38, 0.49, 0.83}, {16, 256, 0.48, 0, 0.59},    {32, 64, 0.195, 0, 0.8},
    {32, 128, 0.315, 0, 0.59},   {32, 256, 0.57, 0, 0.59},    {64, 64, 0.263, 0, 0.32},
    {64, 128, 0.465, 0, 0.32},   {128, 128, 0.70, 0, 0.0},    {128, 256, 1.33, 0, 0.0},
    {256, 128, 1.304, 0, 0.0}};
/// The same for activations of 8 bits.
inline constexpr StageTimes kStagesInt8[] = {{16, 128, 0.325, 0.307, 0.42}, {16, 256, 0.48, 0.67, 0.42},
                                             {32, 128, 0.238, 0, 0.42},     {32, 256, 0.42, 0, 0.42},
                                             {64, 128, 0.275, 0, 0.42},     {64, 256, 0.514, 0, 0.42}};
inline constexpr StageTimes kStagesFp8[] = {{16, 128, 0.383, 0.429, 0.42}, {16, 256, 0.635, 0.71, 0.42},
                                            {32, 128, 0.36, 0, 0.42},      {32, 256, 0.62, 0, 0.42},
                                            {64, 128, 0.425, 0, 0.42},     {64, 256, 0.932, 0, 0.42}};
constexpr StageTimes stage_times(std::optional<Activation8> activations8, Float activations, Weight weight,
                                 int m, int n) {
  std::span<const StageTimes> rows = kStages16;
  if (activations8) rows = *activations8 == Activation8::int8 ? kStagesInt8 : kStagesFp8;
  StageTimes times =
      *std::ranges::find_if(rows, [&](const StageTimes& row) { return row.m == m && row.n == n; });
  const double slower = 1.0 + times.decoding * (decode(weight, activations) - 1.0);
  times.alone *= slower, times.beside_another *= slower;
  return times;
}

/// `stages` of one block of `blocks`. One of the `tiles_m` tiles that need the same weights fetches them from
/// memory, the others from the cache. What the ring holds was fetched before, where two launches share a
/// multiprocessor and the one in front left places.
inline double multiply(const HopperTile& tile, double stages, int blocks, int tiles_m, bool two,
                       bool places_left) {
  const double compute = (two ? tile.beside_another : tile.alone) * tile.k / 128,
               bytes = static_cast<double>(tile.k) * tile.n * tile.bits / 8 * blocks,
               first = 1.0 / std::min(blocks, tiles_m),
               fetch = std::max(compute, bytes * (first / kBytesPerMicrosecond +
                                                  (1.0 - first) / kCachedBytesPerMicrosecond));
  const double fetched = tile.blocks_per_sm > 1 && places_left ? std::min<double>(stages, tile.ring) : 0.0;
  return fetched * compute + (stages - fetched) * fetch;
}
inline double start(bool places_left) {
  return kStart + (places_left ? 0.0 : kNoPlaceLeft);
}
inline double kilobytes(const HopperTile& tile) {
  return tile.m * tile.n * 4.0 / 1024;  // of sums
}
/// A block's tiles, scaled and written.
inline double finish(const HopperTile& tile, int tiles) {
  return tiles * (0.22 + 0.011 * kilobytes(tile));
}
/// A cluster's blocks send one another their sums, of `live` of the tile's rows, or read one another's.
inline double exchange(const HopperTile& tile, int parts, double live) {
  const double received = kilobytes(tile) * live * (parts - 1) / parts;
  return tile.pushes ? 0.6 + 0.04 * parts + 0.06 * received : 1.1 + 0.057 * received;
}
/// The last of a tile's blocks reads the sums of every other from memory.
inline double collect(const HopperTile& tile) {
  return 0.96 + 0.055 * kilobytes(tile);
}
/// Stripes begin all over K, and blocks that read the same weights, or tiles' neighbours in memory, meet less
/// in the cache; the more so behind whole tiles, as blocks have then come apart.
inline double scattered(bool shared_weights, bool behind_tiles) {
  if (shared_weights) return behind_tiles ? 1.6 : 1.15;
  return behind_tiles ? 1.28 : 1.065;
}

}  // namespace model

/// The ways to divide the work between the blocks of a GPU, by each of `rows` (those that take the layer).
inline std::vector<HopperChoice> hopper_choices(std::span<const HopperTile> rows, K k, N n, M m,
                                                const GpuTraits& gpu) {
  std::vector<HopperChoice> choices;
  const auto divide_up = [](std::int64_t a, std::int64_t b) { return static_cast<int>((a + b - 1) / b); };
  for (int row = 0; row < static_cast<int>(rows.size()); ++row) {
    const HopperTile& tile = rows[static_cast<std::size_t>(row)];
    const int tiles_m = divide_up(m.value, tile.m), tiles_n = divide_up(n.value, tile.n);
    const int stages = divide_up(k.value, tile.k);
    // The device counts units in 32 bits.
    if (static_cast<std::int64_t>(tiles_m) * tiles_n * stages > (std::int64_t{1} << 30)) continue;
    const int tiles = tiles_m * tiles_n, places = gpu.num_sms * tile.blocks_per_sm;
    const auto& clusters_of_one = gpu.clusters.front();
    const auto& clusters_that_fit = gpu.clusters[static_cast<std::size_t>(tile.blocks_per_sm - 1)];
    const auto rows_of_m = std::min<std::int64_t>(m.value, tile.m);
    const double live =
        static_cast<double>(tile.m == 8 ? (rows_of_m + 1) / 2 * 2 : (rows_of_m + 7) / 8 * 8) / tile.m;

    const auto in_parts = [&](int clusters, int parts) {
      const int blocks = clusters * parts;
      if (blocks == 0) return;
      const int waves = tiles / blocks, cut = tiles - waves * blocks;
      if (cut * parts > blocks || (parts > 1 && cut == 0)) return;
      const int used = waves > 0 ? blocks : cut * parts, used_clusters = used / parts;
      const int longest = waves * stages + (cut > 0 ? divide_up(stages, parts) : 0);
      // Clusters are spread over multiprocessors as far as they fit.
      const bool two =
          used > gpu.num_sms || (parts > 1 && tile.blocks_per_sm > 1 &&
                                 10 * used_clusters > 11 * clusters_of_one[static_cast<std::size_t>(parts)]);
      const bool places_left =
          tile.blocks_per_sm == 1 || (used < places && (parts == 1 || 9 * used_clusters <= 8 * clusters));
      choices.push_back({row, Partition{tiles_m, tiles_n, stages, used, waves, parts},
                         model::start(places_left) +
                             model::multiply(tile, longest, used, tiles_m, two, places_left) +
                             model::finish(tile, waves + (cut > 0 ? 1 : 0)) +
                             (parts > 1 ? model::exchange(tile, parts, live) : 0)});
    };
    const auto in_stripes = [&](int slots, int waves) {
      const int blocks = std::min(slots, tiles * stages), cut = tiles - waves * blocks;
      if (cut == 0 || (waves > 0 && blocks < slots)) return;
      const Partition partition{tiles_m, tiles_n, stages, blocks, waves, 0};
      const int stripe = divide_up(partition.cut_units(), blocks);
      const int sharers = std::min(stages, 1 + divide_up(stages, stripe));
      const double scattered = tiles >= places ? model::scattered(tiles_m > 1, waves > 0) : 1.0;
      const bool places_left = tile.blocks_per_sm == 1 || blocks < places;
      choices.push_back({row, partition,
                         model::start(places_left) +
                             model::multiply(tile, waves * stages + stripe * scattered, blocks, tiles_m,
                                             blocks > gpu.num_sms, places_left) +
                             model::finish(tile, waves + 2) + sharers * model::collect(tile)});
    };
    // Blocks may stand alone on a multiprocessor where more fit.
    for (int slots = gpu.num_sms; slots <= places; slots += gpu.num_sms) {
      if (tiles > slots - gpu.num_sms) in_parts(slots, 1);  // else as with fewer
      in_stripes(slots, 0);
      if (tiles > slots) in_stripes(slots, tiles / slots);
    }
    for (int parts = 2; parts <= std::min(GpuTraits::kMaxCluster, stages); ++parts)
      in_parts(clusters_that_fit[static_cast<std::size_t>(parts)], parts);
  }
  return choices;
}

}  // namespace mpk
