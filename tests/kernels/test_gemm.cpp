// The GEMM below gpu.hpp: how the work is split must not show in what comes out.

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/gemm.hpp"
#include "kernels/gpu.hpp"
#include "kernels/runtime/device_buffer.hpp"
#include "tests/kernels/layer.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;
using namespace mpk::test;

TEST_CASE("GPU: any number of blocks gives the same whole numbers, and leaves the workspace ready",
          "[kernels][gpu][small]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const int m_size = GENERATE(9, 30, 130);
  CAPTURE(name_of(type), m_size);
  const M m{m_size};
  std::mt19937 rng{mpk::test::seed()};
  const auto one = [](std::mt19937&) { return float_to_f16(1.0f); };
  const PackedLayer packed = make_layer(rng, type, GroupSize{64}, K{1088}, N{320}, one);
  std::vector<std::uint16_t> activations(at(m_size * packed.k.value));
  std::uniform_int_distribution<int> small{-2, 2};
  for (auto& a : activations) a = float_to_f16(static_cast<float>(small(rng)));

  std::vector<std::uint16_t> expected(at(m_size * packed.n.value));
  for (std::int64_t row = 0; row < m_size; ++row)
    for (std::int64_t column = 0; column < packed.n.value; ++column) {
      float sum = 0;  // whole numbers below 2^24: exact in any order
      for (std::int64_t k = 0; k < packed.k.value; ++k)
        sum += f16_to_float(activations[at(row * packed.k.value + k)]) * packed.weight(k, column);
      expected[at(row * packed.n.value + column)] = float_to_f16(sum);
    }

  const Stream stream;
  const DeviceBuffer<std::uint32_t> words{packed.words, stream};
  const DeviceBuffer<std::uint16_t> scales{packed.permuted, stream}, a{activations, stream};
  const LayerShape layer = shape_of(packed);
  for (const int sms : {1, 2, 5, 16, 132, 10000}) {
    const GemmPlan plan = plan_gemm(layer, m, GpuTraits{80, sms});
    CAPTURE(sms, plan.partition.blocks, plan.partition.units());
    DeviceBuffer<std::byte> workspace{plan.workspace_bytes};
    workspace.fill_bytes(0xff, stream);
    MPK_CUDA(cudaMemsetAsync(workspace.data(), 0, plan.counter_bytes, stream.get()));
    for (int launch = 0; launch < 3; ++launch) {
      DeviceBuffer<std::uint16_t> out{expected.size()};
      out.fill_bytes(0xff, stream);
      gemm(plan,
           {.activations = a.data(),
            .words = words.data(),
            .scales = scales.data(),
            .out = out.data(),
            .workspace = workspace.data()},
           stream.get());
      REQUIRE(out.to_host(stream) == expected);
    }
    const std::vector<std::byte> left = workspace.to_host(stream);
    for (std::size_t i = 0; i < plan.counter_bytes; ++i) REQUIRE(left[i] == std::byte{0});
  }
}
