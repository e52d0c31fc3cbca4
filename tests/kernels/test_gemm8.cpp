// GEMMs with activations of 8 bits, on a GPU.

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "gpu/device_buffer.hpp"
#include "kernels/gemm.hpp"
#include "kernels/gpu.hpp"
#include "kernels/include/marlin_pack.h"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/device_layer.hpp"
#include "tests/kernels/layer.hpp"
#include "tests/support/catch.hpp"

extern "C" mpk_status mpk_test_multiply(const mpk_layer* layer, int64_t m, const mpk_buffers* buffers,
                                        size_t room);

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

GpuReference exact_product(const PackedLayer& layer, const QuantizedActivations& activations, M m) {
  return gpu_reference(layer.weights, layer.shape.k, layer.shape.n, activations.first(m, layer.shape.k), m,
                       *layer.shape.activations8);
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
    const GpuReference reference = exact_product(layer, activations, m);
    for (std::int64_t row = 0; row < m.value; ++row)
      for (std::int64_t column = 0; column < layer.shape.n.value; ++column) {
        double product = 0, magnitude = 0;
        for (std::int64_t k = 0; k < layer.shape.k.value; ++k) {
          const double term = value_of(type, activations.values[at(row * layer.shape.k.value + k)]) *
                              static_cast<double>(activations.scales[at(row)]) *
                              static_cast<double>(layer.weight(k, column));
          product += term;
          magnitude += std::abs(term);
        }
        const std::size_t i = at(row * layer.shape.n.value + column);
        REQUIRE(std::abs(reference.product[i] - product) <= 1e-13 * magnitude);
        REQUIRE(std::abs(reference.magnitude[i] - magnitude) <= 1e-13 * magnitude);
      }
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
      const auto expected = rounded(layer, m, exact_product(layer, activations, m));
      const GpuLinear linear{layer.shape, layer.tensors()};
      for (const GemmFamily family : families()) {
        CAPTURE(name_of(family));
        CHECK(differences(linear.multiply(activations.rows(), m, family), expected) == 0);
      }
    }
}

TEST_CASE("GPU: with 8-bit activations any number of blocks gives the same whole numbers",
          "[kernels][gpu][a8][small]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  const int m_size = GENERATE(9, 30, 130);
  const M m{m_size};
  for (const Kind kind : kinds())
    for (const int group_size : {-1, 32}) {
      if (group_size < 0 && kind.weight == Weight::mxfp4) continue;
      std::mt19937 rng{mpk::test::seed()};
      const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, 1056, 320), Numbers::exact, true);
      const LayerShape& shape = layer.shape;
      const auto activations = quantized_activations(rng, m, shape.k, *kind.activations8, Numbers::exact);
      const auto expected = rounded(layer, m, exact_product(layer, activations, m));
      DeviceLayer device{layer};
      device.set_activations(activations);
      for (const GemmFamily family : families())
        for (const int sms : {1, 2, 5, 16, 132, 10000})
          for (const bool clusters : {false, true}) {
            if (clusters && (family != GemmFamily::wgmma || sms > 132)) continue;
            GpuTraits gpu{gpu_status().capability, sms};
            if (clusters) gpu.clusters = every_cluster(sms);
            const GemmPlan plan = plan_gemm(shape, m, gpu, family);
            CAPTURE(describe(plan), group_size, m_size, sms, clusters);
            CHECK(differences(device.multiply(plan, true), expected) == 0);
          }
    }
}

TEST_CASE("GPU: products of 8-bit activations stay within the bound and the same bits at every launch",
          "[kernels][gpu][a8]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  const auto [k, n] = GENERATE(
      table<int, int>({{32, 64}, {96, 192}, {128, 1088}, {160, 320}, {1056, 320}, {4224, 64}, {4224, 1088}}));
  const GpuTraits gpu = current_gpu_traits();
  for (const Kind kind : kinds())
    for (const int group_size : group_sizes(kind.weight)) {
      if (group_size > 0 && k % group_size != 0) continue;
      std::mt19937 rng{mpk::test::seed()};
      const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, k, n), Numbers::wild, true);
      const M most{300};
      const auto activations =
          quantized_activations(rng, most, layer.shape.k, *kind.activations8, Numbers::wild);
      const GpuReference exact = exact_product(layer, activations, most);
      DeviceLayer device{layer};
      device.set_activations(activations);
      bool with_bias = false;
      for (const int m_size : {1, 2, 15, 16, 17, 32, 33, 64, 65, 129, 300}) {
        const M m{m_size};
        for (const GemmFamily family : families()) {
          const GemmPlan plan = plan_gemm(layer.shape, m, gpu, family);
          CAPTURE(describe(plan), group_size, k, n, m_size, with_bias);
          const Comparison result =
              compare(layer, activations, m, device.multiply(plan, with_bias), exact, with_bias);
          if (result.first) FAIL_CHECK(*result.first);
          CHECK(result.worst > 0);
        }
        with_bias = !with_bias;
      }
    }
}

TEST_CASE("GPU: one launch of every row of the tables for 8-bit activations",  // for sanitizers
          "[kernels][gpu][a8][once]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  for (const Kind kind : kinds()) {
    std::mt19937 rng{mpk::test::seed()};
    const int group_size = group_sizes(kind.weight).back();
    const PackedLayer layer = make_layer(rng, layer_of(kind, group_size, 640, 320), Numbers::exact);
    const GpuLinear linear{layer.shape, layer.tensors()};
    for (const int m_size : {5, 20, 40}) {
      CAPTURE_KIND(kind);
      CAPTURE(m_size);
      const M m{m_size};
      const auto activations =
          quantized_activations(rng, m, layer.shape.k, *kind.activations8, Numbers::exact);
      const auto expected = rounded(layer, m, exact_product(layer, activations, m));
      for (const GemmFamily family : families()) {
        CAPTURE(name_of(family));
        CHECK(differences(linear.multiply(activations.rows(), m, family), expected) == 0);
      }
    }
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

TEST_CASE("GPU: the C functions multiply 8-bit activations to the same bits", "[kernels][gpu][a8][small]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  std::mt19937 rng{mpk::test::seed()};
  const LayerShape shape = layer_of({Weight::u4b8, Float::bf16, Activation8::int8}, -1, 256, 320);
  const PackedLayer layer = make_layer(rng, shape, Numbers::wild);
  const M m{19};
  const auto activations = quantized_activations(rng, m, shape.k, Activation8::int8, Numbers::wild);
  const std::vector<std::uint16_t> expected =
      GpuLinear{shape, layer.tensors()}.multiply(activations.rows(), m);

  const Stream stream;
  constexpr std::size_t kRoom = std::size_t{1} << 26;
  const DeviceBuffer<std::uint32_t> words{layer.words, stream};
  const DeviceBuffer<std::byte> scales{layer.scales, stream}, a{activations.values, stream};
  const DeviceBuffer<float> row_scales{activations.scales, stream};
  DeviceBuffer<std::uint16_t> out{expected.size()};
  DeviceBuffer<std::byte> workspace{kRoom};
  workspace.fill_bytes(0, stream);
  out.fill_bytes(0xff, stream);
  stream.wait();
  mpk_buffers buffers{};
  buffers.activations = a.data();
  buffers.row_scales = row_scales.data();
  buffers.words = words.data();
  buffers.scales = scales.data();
  buffers.out = out.data();
  buffers.workspace = workspace.data();
  const mpk_layer c_layer{MPK_U4B8, MPK_BF16, shape.k.value, shape.n.value, -1, 0, MPK_ACTIVATIONS_INT8};
  REQUIRE(mpk_test_multiply(&c_layer, m.value, &buffers, kRoom) == MPK_OK);
  MPK_CUDA(cudaDeviceSynchronize());
  REQUIRE(out.to_host(stream) == expected);
  buffers.row_scales = nullptr;
  REQUIRE(mpk_test_multiply(&c_layer, m.value, &buffers, kRoom) == MPK_BAD_ARGUMENT);
}
