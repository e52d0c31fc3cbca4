// The kernels on a GPU, through gpu.hpp. Skipped without one.

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/gpu.hpp"
#include "packer/format/error.hpp"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/layer.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;
using namespace mpk::test;

#define NEED_GPU() \
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason)

namespace {

GpuLinear upload(const PackedLayer& layer) {
  return {layer.shape, layer.tensors()};
}

}  // namespace

TEST_CASE("the state of the GPU is known, and never an error", "[kernels]") {
  const GpuStatus& gpu = gpu_status();
  REQUIRE(gpu.usable == gpu.reason.empty());
  REQUIRE((!gpu.usable || (!gpu.name.empty() && gpu.capability >= 80)));
}

TEST_CASE("without a GPU a layer cannot be loaded, and the reason is given", "[kernels]") {
  if (gpu_status().usable) MPK_SKIP("there is a GPU");
  const std::vector<std::uint32_t> words(16 * 64 / 8);
  const std::vector<std::uint16_t> scales(64);
  try {
    GpuLinear{{Weight::u4b8, std::nullopt, K{16}, N{64}},
              {.words = words, .scales = std::as_bytes(std::span{scales})}};
    FAIL("loaded");
  } catch (const Error& error) {
    REQUIRE(error.kind() == ErrorKind::device);
    REQUIRE(std::string{error.what()}.find(gpu_status().reason) != std::string::npos);
  }
}

TEST_CASE("GPU: a layer of the wrong size is refused", "[kernels][gpu]") {
  NEED_GPU();
  std::mt19937 rng{mpk::test::seed()};
  LayerShape shape = layer_of({Weight::u4, Float::f16}, 32, 64, 64);
  shape.act_order = true;
  const PackedLayer layer = make_layer(rng, shape, Numbers::wild, true);
  LayerTensors tensors = layer.tensors();
  const GpuLinear linear{shape, tensors};
  REQUIRE_THROWS_AS(linear.multiply(std::vector<std::uint16_t>(15), M{1}), Error);
  SECTION("words") {
    tensors.words = tensors.words.first(1);
  }
  SECTION("scales") {
    tensors.scales = tensors.scales.first(2);
  }
  SECTION("zero points") {
    tensors.zero_points = {};
  }
  SECTION("perm") {
    tensors.perm = {};
  }
  SECTION("bias") {
    tensors.bias = tensors.bias.first(1);
  }
  REQUIRE_THROWS_AS((GpuLinear{shape, tensors}), Error);
}

TEST_CASE("GPU: the float64 reference is the plain sum", "[kernels][gpu][small]") {
  NEED_GPU();
  const Float type = GENERATE(Float::f16, Float::bf16);
  std::mt19937 rng{mpk::test::seed()};
  const PackedLayer layer = make_layer(rng, layer_of({Weight::u4b8, type}, 32, 96, 64), Numbers::wild);
  const M m{3};
  check_reference(layer, activations_with_outliers(rng, m, layer.shape.k, type), m);
}

TEST_CASE("GPU: dequantized weights are the rounded products, to the bit", "[kernels][gpu][a8][small]") {
  NEED_GPU();
  std::vector<Kind> kinds = kinds8();
  kinds.insert(kinds.end(), std::begin(kKinds), std::end(kKinds));
  for (const Kind kind : kinds)
    for (const int group_size : group_sizes(kind.weight))
      for (const auto& [k, n] : {std::pair{128, 64}, {256, 128}, {384, 320}}) {
        CAPTURE(name_of(kind.weight), kind.activations8.has_value(), name_of(kind.activations), group_size, k,
                n);
        std::mt19937 rng{mpk::test::seed()};
        const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, k, n), Numbers::wild);
        std::vector<std::uint16_t> expected(at(std::int64_t{k} * n));
        for (std::int64_t row = 0; row < k; ++row)
          for (std::int64_t column = 0; column < n; ++column)
            expected[at(row * n + column)] = layer.decoded[at(column * k + row)];
        REQUIRE(differences(upload(layer).dequantize(), expected) == 0);
      }
}

TEST_CASE("GPU: the identity times a layer is its weights, rounded where they should be",
          "[kernels][gpu][small][float_zeros]") {
  NEED_GPU();
  const Weight weight = GENERATE(Weight::u4, Weight::u4_float_zeros);
  const Float type = GENERATE(Float::f16, Float::bf16);
  const int rows = GENERATE(5, 16, 64, 144), n = GENERATE(64, 320);  // of the identity at a time
  constexpr int kK = 384;
  for (const int group_size : group_sizes(weight)) {
    CAPTURE(name_of(weight), name_of(type), group_size, rows, n);
    std::mt19937 rng{mpk::test::seed()};
    const PackedLayer layer = make_layer(rng, layer_of({weight, type}, group_size, kK, n), Numbers::wild);
    const GpuLinear linear = upload(layer);
    const int first = std::uniform_int_distribution<int>{0, kK - rows}(rng);
    std::vector<std::uint16_t> identity(at(std::int64_t{rows} * kK)), expected;
    for (int row = 0; row < rows; ++row) {
      identity[at(row * kK + first + row)] = to_bits(1.0f, type);
      for (int column = 0; column < n; ++column)
        expected.push_back(layer.decoded[at(column * kK + first + row)]);
    }
    for (const GemmFamily family : families()) {
      CAPTURE(name_of(family));
      CHECK(differences(linear.multiply(identity, M{rows}, family), expected) == 0);
    }
  }
}

TEST_CASE("GPU: whole numbers multiply exactly", "[kernels][gpu][small]") {
  NEED_GPU();
  const int m_size = GENERATE(1, 13, 17, 100);
  const bool with_bias = GENERATE(false, true);
  const auto [k, n] =
      GENERATE(table<int, int>({{128, 64}, {640, 192}}));  // ends inside a stage and inside a tile
  for (const Kind kind : kKinds)
    for (const int group_size : group_sizes(kind.weight)) {
      CAPTURE(name_of(kind.weight), name_of(kind.activations), group_size, m_size, k, n, with_bias);
      std::mt19937 rng{mpk::test::seed()};
      const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, k, n), Numbers::exact, with_bias);
      const M m{m_size};
      check_whole_numbers(layer, small_activations(rng, m, layer.shape.k, kind.activations), m);
    }
}

TEST_CASE("GPU: K that is no multiple of a stage, down to one step", "[kernels][gpu][small]") {
  NEED_GPU();
  const int k = GENERATE(16, 32, 48, 80, 144, 208), m_size = GENERATE(1, 12, 20, 65);
  for (const Kind kind : kKinds)
    for (const int group_size : group_sizes(kind.weight)) {
      if (group_size > 0 && k % group_size != 0) continue;
      CAPTURE(name_of(kind.weight), name_of(kind.activations), group_size, k, m_size);
      std::mt19937 rng{mpk::test::seed()};
      const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, k, 192), Numbers::wild);
      const M m{m_size};
      const auto activations = activations_with_outliers(rng, m, layer.shape.k, kind.activations);
      const GpuReference exact = exact_product(layer, activations, m);
      const GpuLinear linear = upload(layer);
      for (const GemmFamily family : families()) {
        CAPTURE(name_of(family));
        const auto out = linear.multiply(activations, m, family);
        const Comparison result = compare(layer, activations, m, out, exact, false);
        if (result.first)
          FAIL_CHECK(*result.first);
        else
          SUCCEED();
      }
    }
}
