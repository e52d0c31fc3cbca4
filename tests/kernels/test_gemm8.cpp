// GEMMs with activations of 8 bits, on a GPU.

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/gemm.hpp"
#include "kernels/gpu.hpp"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/device_layer.hpp"
#include "tests/kernels/layer.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

/// The kinds that the current GPU has tensor cores for.
std::vector<Kind> kinds() {
  std::vector<Kind> all = kinds8();
  if (gpu_status().capability < kFp8Capability)
    std::erase_if(all, [](const Kind& kind) { return kind.activations8 == Activation8::e4m3; });
  return all;
}

#define CAPTURE_KIND(kind) \
  CAPTURE(name_of(kind.weight), name_of(*kind.activations8), name_of(kind.activations))

}  // namespace

TEST_CASE("GPU: the float64 reference of 8-bit activations is the plain sum", "[kernels][gpu][a8][small]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  for (const Activation8 type : {Activation8::int8, Activation8::e4m3}) {
    CAPTURE(name_of(type));
    std::mt19937 rng{mpk::test::seed()};
    const PackedLayer layer =
        make_layer(rng, layer_of({Weight::u4b8, Float::f16, type}, -1, 96, 64), Numbers::wild);
    const M m{3};
    const auto activations = quantized_activations(rng, m, layer.shape.k, type, Numbers::wild);
    check_reference(layer, activations, m);
  }
}

TEST_CASE("GPU: whole numbers of 8 bits multiply exactly", "[kernels][gpu][a8][small]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  const int m_size = GENERATE(1, 17, 100);
  const bool with_bias = GENERATE(false, true);
  const auto [k, n] = GENERATE(table<int, int>({{32, 64}, {128, 64}, {640, 192}}));
  for (const Kind kind : kinds())
    for (const int group_size : group_sizes(kind.weight)) {
      if (group_size > 0 && k % group_size != 0) continue;
      CAPTURE_KIND(kind);
      CAPTURE(group_size, m_size, k, n, with_bias);
      std::mt19937 rng{mpk::test::seed()};
      const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, k, n), Numbers::exact, with_bias);
      const M m{m_size};
      const auto activations =
          quantized_activations(rng, m, layer.shape.k, *kind.activations8, Numbers::exact);
      check_whole_numbers(layer, activations, m);
    }
}

TEST_CASE("GPU: with 8-bit activations every plan, for any number of blocks, gives the same whole numbers",
          "[kernels][gpu][a8][plans]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  const int m_size = GENERATE(3, 130);
  const M m{m_size};
  for (const Kind kind : kinds())
    for (const int group_size : {-1, 32}) {
      if (group_size < 0 && kind.weight == Weight::mxfp4) continue;
      std::mt19937 rng{mpk::test::seed()};
      const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, 1056, 320), Numbers::exact, true);
      CAPTURE_KIND(kind);
      check_every_plan(layer,
                       quantized_activations(rng, m, layer.shape.k, *kind.activations8, Numbers::exact), m);
    }
}

TEST_CASE("GPU: products of 8-bit activations stay within the bound and the same bits at every launch",
          "[kernels][gpu][a8]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  const auto [k, n] = GENERATE(
      table<int, int>({{32, 64}, {96, 192}, {128, 1088}, {160, 320}, {1056, 320}, {4224, 64}, {4224, 1088}}));
  for (const Kind kind : kinds())
    for (const int group_size : group_sizes(kind.weight)) {
      if (group_size > 0 && k % group_size != 0) continue;
      std::mt19937 rng{mpk::test::seed()};
      const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, k, n), Numbers::wild, true);
      const M most{300};
      check_within_bound(layer,
                         quantized_activations(rng, most, layer.shape.k, *kind.activations8, Numbers::wild),
                         most, {1, 2, 15, 16, 17, 32, 33, 64, 65, 129, 300});
    }
}

TEST_CASE("GPU: with 8-bit activations, of a tile's stripes only the last writes", "[kernels][gpu][a8]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  for (const Kind kind : kinds()) {
    CAPTURE_KIND(kind);
    std::mt19937 rng{mpk::test::seed()};
    const int group_size = group_sizes(kind.weight).back();
    const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, 640, 320), Numbers::exact);
    const M m{40};
    check_only_the_last_writes(
        layer, quantized_activations(rng, m, layer.shape.k, *kind.activations8, Numbers::exact), m);
  }
}

TEST_CASE("GPU: every row of the tables for 8-bit activations",
          "[kernels][gpu][a8][once]") {  // for sanitizers
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  for (const Kind kind : kinds()) {
    CAPTURE_KIND(kind);
    std::mt19937 rng{mpk::test::seed()};
    const int group_size = group_sizes(kind.weight).back();
    const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, 640, 320), Numbers::exact, true);
    const M most{40};
    check_every_row(layer,
                    quantized_activations(rng, most, layer.shape.k, *kind.activations8, Numbers::exact), most,
                    {5, 20, 40});
  }
}

TEST_CASE("GPU: activations of the wrong width or size are refused", "[kernels][gpu][a8]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  std::mt19937 rng{mpk::test::seed()};
  const PackedLayer layer =
      make_layer(rng, layer_of({Weight::u4b8, Float::f16, Activation8::int8}, -1, 64, 64), Numbers::wild);
  const GpuLinear linear{layer.shape, layer.tensors()};
  const auto activations = quantized_activations(rng, M{2}, layer.shape.k, Activation8::int8, Numbers::wild);
  REQUIRE(linear.multiply(activations.rows(), M{2}).size() == 2 * 64);
  REQUIRE_THROWS_AS(linear.multiply(activations.rows(), M{1}), Error);
  REQUIRE_THROWS_AS(linear.multiply(QuantizedRows{activations.values, {}}, M{2}), Error);
  REQUIRE_THROWS_AS(linear.multiply(std::vector<std::uint16_t>(2 * 64), M{2}), Error);
}
