// How fast: `test_kernels "[timing]"`. Hidden, since it asserts nothing. Weights rotate through more memory
// than the L2 cache holds, so every launch reads them from device memory, as in a model. Medians.

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <random>
#include <type_traits>
#include <vector>

#include "kernels/gemm.hpp"
#include "kernels/gpu.hpp"
#include "kernels/runtime/device_buffer.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

namespace {

constexpr std::size_t kColdBytes = std::size_t{512} << 20;
constexpr int kRounds = 7;
constexpr std::size_t kLaunches = 64;

double median_microseconds(const LayerShape& layer, M m, int sms) {
  const Stream stream;
  const GemmPlan plan = plan_gemm(layer, m, sms);
  const std::size_t bytes = layer.num_words() * 4 + layer.num_scales() * 2;
  const std::size_t copies = std::clamp<std::size_t>(kColdBytes / bytes, 2, kLaunches);
  DeviceBuffer<std::uint32_t> words{layer.num_words() * copies};
  DeviceBuffer<std::uint16_t> scales{layer.num_scales() * copies};
  DeviceBuffer<std::uint16_t> a{static_cast<std::size_t>(m.value * layer.k.value)};
  DeviceBuffer<std::uint16_t> out{static_cast<std::size_t>(m.value * layer.n.value)};
  DeviceBuffer<std::byte> workspace{plan.workspace_bytes};
  // Random bits: what changes little is faster than what a model computes.
  std::mt19937_64 rng{1};
  const auto random = [&](auto& buffer, std::size_t size, auto make) {
    std::vector<std::remove_reference_t<decltype(*buffer.data())>> host(size);
    for (auto& value : host) value = make();
    for (std::size_t done = 0; done < buffer.size(); done += size)
      MPK_CUDA(cudaMemcpyAsync(buffer.data() + done, host.data(), size * sizeof(host[0]),
                               cudaMemcpyHostToDevice, stream.get()));
    stream.wait();
  };
  const auto near_one = [&] { return static_cast<std::uint16_t>((rng() & 0x83ff) | 0x3800); };
  random(words, layer.num_words(), [&] { return static_cast<std::uint32_t>(rng()); });
  random(scales, layer.num_scales(), [&] { return static_cast<std::uint16_t>(near_one() - 0x2000); });
  random(a, a.size(), near_one);
  workspace.fill_bytes(0, stream);

  // One graph of many launches: the host's share of a launch stays out of the figures.
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  MPK_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
  for (std::size_t launch = 0; launch < kLaunches; ++launch) {
    const std::size_t copy = launch % copies;
    gemm(plan,
         {a.data(), words.data() + copy * layer.num_words(), scales.data() + copy * layer.num_scales(),
          out.data(), workspace.data()},
         stream.get());
  }
  MPK_CUDA(cudaStreamEndCapture(stream.get(), &graph));
  MPK_CUDA(cudaGraphInstantiate(&replay, graph, 0));
  std::vector<double> rounds;
  for (int round = -1; round < kRounds; ++round) {  // the first warms up
    Event begin, end;
    begin.record(stream);
    MPK_CUDA(cudaGraphLaunch(replay, stream.get()));
    end.record(stream);
    const double us = static_cast<double>(end.milliseconds_since(begin)) * 1e3 / kLaunches;
    if (round >= 0) rounds.push_back(us);
  }
  MPK_CUDA(cudaGraphExecDestroy(replay));
  MPK_CUDA(cudaGraphDestroy(graph));
  std::ranges::sort(rounds);
  return rounds[rounds.size() / 2];
}

}  // namespace

TEST_CASE("timing", "[.][timing]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  int sms = 0;
  MPK_CUDA(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0));
  std::printf("%s\n%-8s %6s %7s %7s %6s %10s %9s %9s\n", gpu_status().name.c_str(), "type", "group", "K", "N",
              "M", "time (us)", "GB/s", "TFLOP/s");
  struct Size {
    int k, n;
  };
  for (const ScalarType type : {kU4B8, kU8B128})
    for (const int group : {128, -1})
      for (const Size size :
           {Size{4096, 4096}, Size{4096, 28672}, Size{8192, 8192}, Size{8192, 57344}, Size{28672, 8192}})
        for (const int m : {1, 16, 32, 64, 256, 2048}) {
          if ((type != kU4B8 || group != 128) && size.k != 8192) continue;
          const LayerShape layer{type, group < 0 ? std::nullopt : std::optional{GroupSize{group}}, K{size.k},
                                 N{size.n}};
          const double us = median_microseconds(layer, M{m}, sms);
          const double bytes = static_cast<double>(layer.num_words()) * 4 +
                               static_cast<double>(layer.num_scales()) * 2 + 2.0 * m * (size.k + size.n);
          std::printf("%-8s %6d %7d %7d %6d %10.1f %9.0f %9.1f\n", name_of(type), group, size.k, size.n, m,
                      us, bytes / us * 1e-3, 2.0 * m * size.k * size.n / us * 1e-6);
        }
}
