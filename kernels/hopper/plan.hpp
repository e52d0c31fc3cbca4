#pragma once
// Which kernel, and who computes what: the cheapest by a small model of what was measured on an H200 (132
// multiprocessors). Plain C++, so that it can be tested without a GPU. A wrong guess costs
// time, never correctness.

#include <algorithm>
#include <optional>
#include <span>

#include "kernels/gemm.hpp"

namespace mpk {

/// What the model knows of a row of the table.
struct HopperTile {
  int bits;
  int m, n, k;  ///< of a block's tile; k of one stage
  int blocks_per_sm;
  bool pushes;    ///< sums go to the other blocks of a cluster without being asked for
  double decode;  ///< time to decode so many weights, beside u4b8's in f16
};

struct HopperChoice {
  int row = -1;
  Partition partition;
  double microseconds = 0;
};

namespace model {

inline constexpr double kBytesPerMicrosecond = 4.2e6;  ///< of device memory
inline constexpr double kStart = 0.8;
/// Later, where the next launch's blocks find no place to fill their rings in while this one's are at work.
inline constexpr double kNoPlaceLeft = 4.9;

/// HopperTile::decode.
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
/// Microseconds that a block needs for 128 rows of K, its weights in the cache; `two`: beside another of its
/// launch. Up to 8 rows of M more of the decoding is hidden; the more rows, the more the tensor cores decide.
inline double stage_of_128(const HopperTile& tile, bool two) {
  struct Row {
    double alone, beside_another, of_decoding;
  };
  const Row row = tile.m <= 8    ? Row{0.54, 0.84, 0.74}
                  : tile.m <= 16 ? Row{0.62, 0.98, 0.83}
                  : tile.m <= 32 ? Row{0.63, 0.63, 0.59}
                  : tile.m <= 64 ? Row{0.98, 0.98, 0.32}
                                 : Row{1.48, 1.48, 0.0};
  return (two ? row.beside_another : row.alone) * (1.0 + row.of_decoding * (tile.decode - 1.0)) * tile.n /
         256;
}
/// Clusters are put two blocks to a multiprocessor, if they fit. Where some multiprocessors have two and some
/// one, the former are waited for.
inline double stage(const HopperTile& tile, int blocks, bool clusters, int num_sms) {
  const double bytes = static_cast<double>(tile.k) * tile.n * tile.bits / 8;
  const bool two = blocks > num_sms || (clusters && tile.blocks_per_sm > 1);
  const bool uneven = blocks > num_sms && blocks < num_sms * tile.blocks_per_sm;
  return std::max(stage_of_128(tile, two) * tile.k / 128, bytes * blocks / kBytesPerMicrosecond) *
         (uneven ? 1.1 : 1.0);
}
/// `clusters_left`: beside a launch's clusters some more would fit. Few rows wait less for that.
inline double start(const HopperTile& tile, bool places_left, bool clusters_left) {
  if (tile.blocks_per_sm == 1) return kStart;
  return kStart + (!places_left ? kNoPlaceLeft : !clusters_left ? kNoPlaceLeft * tile.m / 16 : 0.0);
}
/// A cluster's blocks send one another their sums, or write them to shared memory and read one another's.
inline double exchange(const HopperTile& tile, int parts) {
  if (!tile.pushes) return 0.78 * parts + 0.006 * tile.m;
  return tile.m <= 16 ? 0.093 * tile.m : 0.66 * parts;
}
/// The last of a tile's blocks reads the sums of every other from memory.
inline double collect(const HopperTile& tile) {
  return 0.59 + 0.026 * tile.m;
}
/// Stripes begin all over K, and blocks that read the same weights, or tiles' neighbours in memory, meet less
/// in the cache; the more so behind whole tiles, as blocks have then come apart.
inline double scattered(bool shared_weights, bool behind_tiles) {
  if (shared_weights) return behind_tiles ? 2.4 : 1.025;
  return behind_tiles ? 1.24 : 1.05;
}

}  // namespace model

/// Among `rows` (those that take the layer) times the ways to divide the work.
inline HopperChoice choose_hopper(std::span<const HopperTile> rows, K k, N n, M m, const GpuTraits& gpu) {
  HopperChoice best;
  const auto offer = [&](int row, const Partition& partition, double microseconds) {
    if (best.row < 0 || microseconds < best.microseconds) best = {row, partition, microseconds};
  };
  const auto divide_up = [](std::int64_t a, std::int64_t b) { return static_cast<int>((a + b - 1) / b); };
  for (int row = 0; row < static_cast<int>(rows.size()); ++row) {
    const HopperTile& tile = rows[static_cast<std::size_t>(row)];
    const int tiles_m = divide_up(m.value, tile.m), tiles_n = divide_up(n.value, tile.n);
    const int stages = divide_up(k.value, tile.k);
    // The device counts units in 32 bits.
    if (static_cast<std::int64_t>(tiles_m) * tiles_n * stages > (std::int64_t{1} << 30)) continue;
    const int tiles = tiles_m * tiles_n, places = gpu.num_sms * tile.blocks_per_sm;

    const auto in_parts = [&](int clusters, int parts) {
      const int blocks = clusters * parts;
      if (blocks == 0) return;
      const int waves = tiles / blocks, cut = tiles - waves * blocks;
      if (cut * parts > blocks || (parts > 1 && cut == 0)) return;
      const int used = waves > 0 ? blocks : cut * parts;
      const int longest = waves * stages + (cut > 0 ? divide_up(stages, parts) : 0);
      offer(row, Partition{tiles_m, tiles_n, stages, used, waves, parts},
            model::start(tile, used < places, parts == 1 || 9 * used <= 8 * blocks) +
                longest * model::stage(tile, used, parts > 1, gpu.num_sms) +
                (parts > 1 ? model::exchange(tile, parts) : 0));
    };
    const auto in_stripes = [&](int slots, int waves) {
      const int blocks = std::min(slots, tiles * stages), cut = tiles - waves * blocks;
      if (cut == 0 || (waves > 0 && blocks < slots)) return;
      const Partition partition{tiles_m, tiles_n, stages, blocks, waves, 0};
      const int stripe = divide_up(partition.cut_units(), blocks);
      const int sharers = std::min(stages, 1 + divide_up(stages, stripe));
      const double scattered = tiles >= places ? model::scattered(tiles_m > 1, waves > 0) : 1.0;
      offer(row, partition,
            model::start(tile, blocks < places, true) +
                (waves * stages + stripe * scattered) * model::stage(tile, blocks, false, gpu.num_sms) +
                sharers * model::collect(tile));
    };
    // Blocks may stand alone on a multiprocessor where more fit; those of clusters are put together.
    for (int slots = gpu.num_sms; slots <= places; slots += gpu.num_sms) {
      in_parts(slots, 1);
      in_stripes(slots, 0);
      in_stripes(slots, tiles / slots);
    }
    const auto& clusters = gpu.clusters[static_cast<std::size_t>(tile.blocks_per_sm - 1)];
    for (int parts = 2; parts <= std::min(GpuTraits::kMaxCluster, stages); ++parts)
      in_parts(clusters[static_cast<std::size_t>(parts)], parts);
  }
  return best;
}

}  // namespace mpk
