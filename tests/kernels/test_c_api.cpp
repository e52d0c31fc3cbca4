// marlin_pack.h through a C compiler.

#include <random>
#include <string>
#include <vector>

#include "gpu/device_buffer.hpp"
#include "kernels/gpu.hpp"
#include "kernels/include/marlin_pack.h"
#include "tests/kernels/layer.hpp"
#include "tests/support/catch.hpp"

extern "C" {
int mpk_test_refusals(void);
mpk_status mpk_test_multiply(const mpk_layer* layer, int64_t m, const mpk_buffers* buffers, size_t room);
}

using namespace mpk;
using namespace mpk::test;

TEST_CASE("C: what cannot be is refused, and said", "[kernels]") {
  REQUIRE(mpk_test_refusals() == 0);
  if (gpu_status().usable) return;
  const mpk_layer layer{MPK_U4B8, MPK_F16, 256, 128, 128, 0, MPK_ACTIVATIONS_16};
  mpk_plan plan{};
  REQUIRE(mpk_plan_gemm(&layer, 1, &plan) == MPK_DEVICE);
  REQUIRE(!std::string{mpk_last_error()}.empty());
}

TEST_CASE("GPU: the C functions give the bits that the C++ ones give", "[kernels][gpu][small]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  std::mt19937 rng{mpk::test::seed()};
  const LayerShape shape = layer_of({Weight::u4b8, Float::f16}, 128, 1024, 320);
  const PackedLayer layer = make_layer(rng, shape, Numbers::wild);
  const M m{19};
  const auto activations = activations_with_outliers(rng, m, shape.k);
  const std::vector<std::uint16_t> expected = GpuLinear{shape, layer.tensors()}.multiply(activations, m);

  const Stream stream;
  constexpr std::size_t kRoom = std::size_t{1} << 26;
  const DeviceBuffer<std::uint32_t> words{layer.words, stream};
  const DeviceBuffer<std::byte> scales{layer.scales, stream};
  const DeviceBuffer<std::uint16_t> a{activations, stream};
  DeviceBuffer<std::uint16_t> out{expected.size()};
  DeviceBuffer<std::byte> workspace{kRoom};
  workspace.fill_bytes(0, stream);
  out.fill_bytes(0xff, stream);
  stream.wait();
  mpk_buffers buffers{};
  buffers.activations = a.data();
  buffers.words = words.data();
  buffers.scales = scales.data();
  buffers.out = out.data();
  buffers.workspace = workspace.data();
  const mpk_layer c_layer{MPK_U4B8, MPK_F16, shape.k.value, shape.n.value, 128, 0, MPK_ACTIVATIONS_16};
  REQUIRE(mpk_test_multiply(&c_layer, m.value, &buffers, kRoom) == MPK_OK);
  MPK_CUDA(cudaDeviceSynchronize());
  REQUIRE(out.to_host(stream) == expected);
  buffers.words = nullptr;
  REQUIRE(mpk_test_multiply(&c_layer, m.value, &buffers, kRoom) == MPK_BAD_ARGUMENT);
}
