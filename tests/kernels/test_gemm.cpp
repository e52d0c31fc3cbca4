// The GEMM below gpu.hpp: every kind of layer, in shapes that fit no tile; how the work is split, and who was
// there before, must not show in what comes out.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <utility>
#include <vector>

#include "gpu/device_buffer.hpp"
#include "kernels/gemm.hpp"
#include "kernels/gpu.hpp"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/device_layer.hpp"
#include "tests/kernels/layer.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

void check_layer(std::mt19937& rng, const PackedLayer& layer, std::initializer_list<int> rows) {
  const M most{*std::max_element(rows.begin(), rows.end())};
  check_within_bound(layer, activations_with_outliers(rng, most, layer.shape.k, layer.shape.activations),
                     most, rows);
}

}  // namespace

TEST_CASE("GPU: products stay within the bound, the same bits at every launch", "[kernels][gpu]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  const int index = GENERATE(range(0, static_cast<int>(std::size(kKinds))));
  const Kind kind = kKinds[index];
  // One tile; many columns over few rows; a tail in k, in n, in both; deep.
  const auto [k, n] =
      GENERATE(table<int, int>({{128, 64}, {128, 1088}, {144, 320}, {1056, 320}, {4224, 64}, {4224, 1088}}));
  for (const int group_size : group_sizes(kind.weight)) {
    if (group_size > 0 && k % group_size != 0) continue;
    std::mt19937 rng{mpk::test::seed()};
    const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, k, n), Numbers::wilder, true);
    check_layer(rng, layer, {1, 2, 8, 15, 16, 17, 32, 33, 64, 65, 128, 129, 300});
  }
}

TEST_CASE("GPU: activations meet the rows of an act_order layer", "[kernels][gpu]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  const Weight weight = GENERATE(Weight::u4b8, Weight::u4, Weight::u8b128, Weight::u4_float_zeros);
  const Float activations = GENERATE(Float::f16, Float::bf16);
  const auto [k, group_size] = GENERATE(table<int, int>({{1056, 32}, {4224, 128}}));
  std::mt19937 rng{mpk::test::seed()};
  LayerShape shape = layer_of({weight, activations}, group_size, k, 320);
  shape.act_order = true;
  check_layer(rng, make_layer(rng, shape, Numbers::wilder, true), {1, 17, 130});
}

// nvfp4's sums in bf16 are made far below 1 (error_bound.hpp).
TEST_CASE("GPU: sums that are no normal floats are kept", "[kernels][gpu]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  std::mt19937 rng{mpk::test::seed()};
  PackedLayer layer = make_layer(rng, layer_of({Weight::nvfp4, Float::bf16}, 16, 1056, 320), Numbers::wild);
  // The largest global scale that the bound takes for granted, so that it says something of small outputs.
  constexpr float kLarger = 0x1p17f;
  layer.global_scale *= kLarger;
  for (float& weight : layer.weights) weight *= kLarger;
  std::vector<std::uint16_t> activations =
      activations_with_outliers(rng, M{130}, layer.shape.k, layer.shape.activations);
  for (std::uint16_t& a : activations)
    a = to_bits(std::ldexp(from_bits(a, layer.shape.activations), -36), layer.shape.activations);
  check_within_bound(layer, activations, M{130}, {1, 16, 30, 64, 130});
}

TEST_CASE("GPU: more rows than one launch of a small kernel takes", "[kernels][gpu]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  std::mt19937 rng{mpk::test::seed()};
  LayerShape shape = layer_of({Weight::u4b8, Float::f16}, 32, 64, 64);
  shape.act_order = true;  // gathering has a limit of its own
  check_layer(rng, make_layer(rng, shape, Numbers::wild, true), {70000});
}

TEST_CASE("GPU: every plan, for any number of blocks, gives the same whole numbers",
          "[kernels][gpu][plans]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  const int m_size = GENERATE(3, 130);  // every tile of the tables serves either
  const M m{m_size};
  for (const Kind kind : kKinds) {
    const int group_size = kind.weight == Weight::nvfp4 ? 16 : kind.weight == Weight::mxfp4 ? 32 : 64;
    std::mt19937 rng{mpk::test::seed()};
    const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, 1088, 320), Numbers::exact, true);
    check_every_plan(layer, small_activations(rng, m, layer.shape.k, kind.activations), m);
  }
}

TEST_CASE("GPU: of a tile's stripes only the last writes", "[kernels][gpu]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  for (const Kind kind : kKinds) {
    std::mt19937 rng{mpk::test::seed()};
    const int group_size = group_sizes(kind.weight).back();
    const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, 640, 320), Numbers::exact);
    const M m{100};
    check_only_the_last_writes(layer, small_activations(rng, m, layer.shape.k, kind.activations), m);
  }
}

TEST_CASE("GPU: every row of the tables", "[kernels][gpu][once]") {  // for sanitizers
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  for (const Kind kind : kKinds) {
    std::mt19937 rng{mpk::test::seed()};
    const int group_size = group_sizes(kind.weight).back();
    const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, 640, 320), Numbers::exact, true);
    const M most{100};
    check_every_row(layer, small_activations(rng, most, layer.shape.k, kind.activations), most,
                    {5, 12, 20, 40, 100});
  }
}
