// The kernels on a GPU, through gpu.hpp. Skipped without one.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/error_bound.hpp"
#include "kernels/gpu.hpp"
#include "packer/format/error.hpp"
#include "tests/kernels/layer.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;
using namespace mpk::test;

#define NEED_GPU() \
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason)

namespace {

GpuLinear upload(const PackedLayer& layer) {
  return {shape_of(layer), tensors_of(layer)};
}

std::optional<GroupSize> group(int size) {
  return size < 0 ? std::nullopt : std::optional{GroupSize{size}};
}

struct Mismatch {
  std::int64_t row, column;
  double actual, expected, bound;
};
std::ostream& operator<<(std::ostream& out, const Mismatch& m) {
  return out << "(" << m.row << ", " << m.column << "): " << m.actual << " for " << m.expected << ", bound "
             << m.bound;
}

struct Comparison {
  std::optional<Mismatch> first;  ///< outside its bound
  double worst = 0;               ///< largest error / bound
};

Comparison compare(const PackedLayer& layer, const std::vector<std::uint16_t>& activations, M m,
                   const std::vector<std::uint16_t>& out, const GpuReference& expected) {
  Comparison result;
  for (std::int64_t row = 0; row < m.value; ++row) {
    double sum_abs = 0;
    for (std::int64_t k = 0; k < layer.k.value; ++k)
      sum_abs += std::abs(f16_to_float(activations[at(row * layer.k.value + k)]));
    for (std::int64_t column = 0; column < layer.n.value; ++column) {
      const std::size_t i = at(row * layer.n.value + column);
      const double bound =
          gemm_error_bound(layer.k, layer.grouped(), expected.product[i], expected.magnitude[i], sum_abs);
      const double actual = f16_to_float(out[i]), error = std::abs(actual - expected.product[i]);
      if (!(error <= bound) && !result.first)  // NaN, too
        result.first = Mismatch{row, column, actual, expected.product[i], bound};
      result.worst = std::max(result.worst, error / bound);
    }
  }
  return result;
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
  std::vector<std::uint32_t> words(16 * 64 / 8);
  std::vector<std::uint16_t> scales(64);
  const LayerShape shape{Weight::u4b8, std::nullopt, K{16}, N{64}};
  const auto tensors = [&] {
    return LayerTensors{.words = words, .scales = std::as_bytes(std::span{scales})};
  };
  const GpuLinear layer{shape, tensors()};
  REQUIRE_THROWS_AS(layer.multiply(std::vector<std::uint16_t>(15), M{1}), Error);
  words.pop_back();
  REQUIRE_THROWS_AS((GpuLinear{shape, tensors()}), Error);
}

TEST_CASE("GPU: the float64 reference is the plain sum", "[kernels][gpu][small]") {
  NEED_GPU();
  std::mt19937 rng{mpk::test::seed()};
  const PackedLayer layer = make_layer(rng, kU4B8, GroupSize{32}, K{96}, N{64}, wild_scale<std::mt19937>);
  const M m{3};
  const auto activations = activations_with_outliers(rng, m, layer.k);
  const GpuReference reference = gpu_reference(layer.weights, layer.k, layer.n, activations, m);
  for (std::int64_t row = 0; row < m.value; ++row)
    for (std::int64_t column = 0; column < layer.n.value; ++column) {
      double product = 0, magnitude = 0;
      for (std::int64_t k = 0; k < layer.k.value; ++k) {
        const double term = static_cast<double>(f16_to_float(activations[at(row * layer.k.value + k)])) *
                            static_cast<double>(layer.weight(k, column));
        product += term;
        magnitude += std::abs(term);
      }
      const std::size_t i =
          at(row * layer.n.value + column);  // fused multiply-adds may differ in the last bits
      REQUIRE(std::abs(reference.product[i] - product) <= 1e-13 * magnitude);
      REQUIRE(std::abs(reference.magnitude[i] - magnitude) <= 1e-13 * magnitude);
    }
}

TEST_CASE("GPU: dequantized weights are the rounded products, to the bit", "[kernels][gpu][small]") {
  NEED_GPU();
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const int group_size = GENERATE(-1, 32, 64, 128);
  const auto [k, n] = GENERATE(table<int, int>({{128, 64}, {256, 128}, {384, 320}}));
  CAPTURE(name_of(type), group_size, k, n);
  std::mt19937 rng{mpk::test::seed()};
  const PackedLayer layer = make_layer(rng, type, group(group_size), K{k}, N{n}, wild_scale<std::mt19937>);
  const std::vector<std::uint16_t> weights = upload(layer).dequantize();
  std::int64_t wrong = 0;
  for (std::int64_t row = 0; row < k; ++row)
    for (std::int64_t column = 0; column < n; ++column) {
      const std::uint16_t expected = float_to_f16(layer.weight(row, column)),
                          actual = weights[at(row * n + column)];
      wrong += actual != expected && ((actual | expected) & 0x7fff) != 0;  // either zero
    }
  REQUIRE(wrong == 0);
}

TEST_CASE("GPU: whole numbers multiply exactly", "[kernels][gpu][small]") {
  NEED_GPU();
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const int group_size = GENERATE(-1, 32, 64, 128);
  const int m_size = GENERATE(1, 17, 100);
  const auto [k, n] =
      GENERATE(table<int, int>({{128, 64}, {640, 192}}));  // ends inside a stage and inside a tile
  CAPTURE(name_of(type), group_size, m_size, k, n);
  std::mt19937 rng{mpk::test::seed()};
  std::uniform_int_distribution<int> small{-2, 2}, exponent{-1, 1};
  const auto power_of_two = [&](auto& r) { return float_to_f16(std::exp2(static_cast<float>(exponent(r)))); };
  const PackedLayer layer = make_layer(rng, type, group(group_size), K{k}, N{n}, power_of_two);
  std::vector<std::uint16_t> activations(at(std::int64_t{m_size} * k));
  for (auto& a : activations) a = float_to_f16(static_cast<float>(small(rng)));
  const auto out = upload(layer).multiply(activations, M{m_size});
  std::int64_t wrong = 0;
  for (std::int64_t row = 0; row < m_size; ++row)
    for (std::int64_t column = 0; column < n; ++column) {
      double sum = 0;
      for (std::int64_t i = 0; i < k; ++i)
        sum += static_cast<double>(f16_to_float(activations[at(row * k + i)])) *
               static_cast<double>(layer.weight(i, column));
      const float actual = f16_to_float(out[at(row * n + column)]);
      wrong += !(actual == f16_to_float(float_to_f16(static_cast<float>(sum))));
    }
  REQUIRE(wrong == 0);
}

TEST_CASE("GPU: products stay within the bound", "[kernels][gpu]") {
  NEED_GPU();
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const int group_size = GENERATE(-1, 32, 64, 128);
  // One tile; less than a stage of k; many columns over few rows; a tail in k and in n; deep.
  const auto [k, n] =
      GENERATE(table<int, int>({{256, 128}, {128, 64}, {128, 1088}, {896, 704}, {4224, 320}}));
  std::mt19937 rng{mpk::test::seed()};
  const PackedLayer layer = make_layer(rng, type, group(group_size), K{k}, N{n}, wild_scale<std::mt19937>);
  const GpuLinear linear = upload(layer);
  for (const int m_size : {1, 2, 3, 8, 15, 16, 17, 32, 33, 64, 100, 128, 256, 1000}) {
    CAPTURE(name_of(type), group_size, k, n, m_size);
    const M m{m_size};
    const auto activations = activations_with_outliers(rng, m, layer.k);
    const auto out = linear.multiply(activations, m);
    const Comparison result =
        compare(layer, activations, m, out, gpu_reference(layer.weights, layer.k, layer.n, activations, m));
    if (result.first) FAIL(*result.first);
    CHECK(result.worst > 0);
  }
}

TEST_CASE("GPU: K that is no multiple of a stage, down to one step", "[kernels][gpu][small]") {
  NEED_GPU();
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const int k = GENERATE(16, 48, 80, 144, 208), m_size = GENERATE(1, 20, 65);
  CAPTURE(name_of(type), k, m_size);
  std::mt19937 rng{mpk::test::seed()};
  const PackedLayer layer = make_layer(rng, type, std::nullopt, K{k}, N{192}, wild_scale<std::mt19937>);
  const M m{m_size};
  const auto activations = activations_with_outliers(rng, m, layer.k);
  const auto out = upload(layer).multiply(activations, m);
  const Comparison result =
      compare(layer, activations, m, out, gpu_reference(layer.weights, layer.k, layer.n, activations, m));
  if (result.first) FAIL(*result.first);
}

TEST_CASE("GPU: a group as long as K is one scale per column", "[kernels][gpu][small]") {
  NEED_GPU();
  std::mt19937 rng{mpk::test::seed()};
  const PackedLayer layer = make_layer(rng, kU4B8, GroupSize{128}, K{128}, N{128}, wild_scale<std::mt19937>);
  REQUIRE_FALSE(layer.grouped());
  const M m{5};
  const auto activations = activations_with_outliers(rng, m, layer.k);
  const auto out = upload(layer).multiply(activations, m);
  const Comparison result =
      compare(layer, activations, m, out, gpu_reference(layer.weights, layer.k, layer.n, activations, m));
  if (result.first) FAIL(*result.first);
}

TEST_CASE("GPU: repeats are bit-identical", "[kernels][gpu]") {
  NEED_GPU();
  const int group_size = GENERATE(-1, 128), m_size = GENERATE(1, 32, 200);
  CAPTURE(group_size, m_size);
  std::mt19937 rng{mpk::test::seed()};
  const PackedLayer layer =
      make_layer(rng, kU4B8, group(group_size), K{2048}, N{1088}, wild_scale<std::mt19937>);
  const GpuLinear linear = upload(layer);
  const auto activations = activations_with_outliers(rng, M{m_size}, layer.k);
  const auto first = linear.multiply(activations, M{m_size});
  for (int repeat = 0; repeat < 20; ++repeat) REQUIRE(linear.multiply(activations, M{m_size}) == first);
}
