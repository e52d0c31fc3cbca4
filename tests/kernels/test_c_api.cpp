// marlin_pack.h through a C compiler.

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <utility>
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

namespace {

/// The C functions on a layer that GpuLinear has multiplied by the same activations.
class CMultiplication {
 public:
  CMultiplication(const PackedLayer& layer, const mpk_layer& c_layer, M m,
                  std::span<const std::byte> activations, std::span<const float> row_scales,
                  std::vector<std::uint16_t> expected)
      : words_{layer.words, stream_},
        scales_{layer.scales, stream_},
        activations_{activations, stream_},
        row_scales_{row_scales, stream_},
        out_{expected.size()},
        workspace_{kRoom},
        layer_{c_layer},
        m_{m},
        expected_{std::move(expected)} {
    workspace_.fill_bytes(0, stream_);
    out_.fill_bytes(0xff, stream_);
    stream_.wait();
    buffers.activations = activations_.data();
    buffers.row_scales = row_scales_.data();
    buffers.words = words_.data();
    buffers.scales = scales_.data();
    buffers.out = out_.data();
    buffers.workspace = workspace_.data();
  }
  mpk_status run() const { return mpk_test_multiply(&layer_, m_.value, &buffers, kRoom); }
  void check() const {
    REQUIRE(run() == MPK_OK);
    MPK_CUDA(cudaDeviceSynchronize());
    REQUIRE(out_.to_host(stream_) == expected_);
  }

  mpk_buffers buffers{};

 private:
  static constexpr std::size_t kRoom = std::size_t{1} << 26;
  const Stream stream_;
  const DeviceBuffer<std::uint32_t> words_;
  const DeviceBuffer<std::byte> scales_, activations_;
  const DeviceBuffer<float> row_scales_;
  DeviceBuffer<std::uint16_t> out_;
  DeviceBuffer<std::byte> workspace_;
  mpk_layer layer_;
  M m_;
  std::vector<std::uint16_t> expected_;
};

}  // namespace

TEST_CASE("GPU: the C functions give the bits that the C++ ones give", "[kernels][gpu][small]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  std::mt19937 rng{mpk::test::seed()};
  const LayerShape shape = layer_of({Weight::u4b8, Float::f16}, 128, 1024, 320);
  const PackedLayer layer = make_layer(rng, shape, Numbers::wild);
  const M m{19};
  const auto activations = activations_with_outliers(rng, m, shape.k);
  CMultiplication c{layer, {MPK_U4B8, MPK_F16, shape.k.value, shape.n.value, 128, 0, MPK_ACTIVATIONS_16},
                    m,     std::as_bytes(std::span{activations}),
                    {},    GpuLinear{shape, layer.tensors()}.multiply(activations, m)};
  c.check();
  c.buffers.words = nullptr;
  REQUIRE(c.run() == MPK_BAD_ARGUMENT);
}

TEST_CASE("GPU: the C functions multiply 8-bit activations to the same bits", "[kernels][gpu][a8][small]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  std::mt19937 rng{mpk::test::seed()};
  const LayerShape shape = layer_of({Weight::u4b8, Float::bf16, Activation8::int8}, -1, 256, 320);
  const PackedLayer layer = make_layer(rng, shape, Numbers::wild);
  const M m{19};
  const auto activations = quantized_activations(rng, m, shape.k, Activation8::int8, Numbers::wild);
  CMultiplication c{layer,
                    {MPK_U4B8, MPK_BF16, shape.k.value, shape.n.value, -1, 0, MPK_ACTIVATIONS_INT8},
                    m,
                    activations.values,
                    activations.scales,
                    GpuLinear{shape, layer.tensors()}.multiply(activations.rows(), m)};
  c.check();
  c.buffers.row_scales = nullptr;
  REQUIRE(c.run() == MPK_BAD_ARGUMENT);
}
