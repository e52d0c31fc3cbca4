#pragma once
// A layer on the GPU, multiplied below gpu.hpp: several launches on one workspace, whose outputs and edges
// are watched.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "gpu/device_buffer.hpp"
#include "kernels/gemm.hpp"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/layer.hpp"
#include "tests/support/catch.hpp"

namespace mpk::test {

inline constexpr int kLaunches = 3;

class DeviceLayer {
 public:
  explicit DeviceLayer(const PackedLayer& layer)
      : shape_{layer.shape},
        words_{layer.words, stream_},
        scales_{layer.scales, stream_},
        zero_points_{layer.zero_points, stream_},
        perm_{layer.perm, stream_},
        bias_{layer.bias, stream_},
        global_scale_{layer.global_scale} {}

  void set_activations(const std::vector<std::uint16_t>& activations) {
    activations_ = DeviceBuffer<std::byte>{std::as_bytes(std::span{activations}), stream_};
  }
  void set_activations(const QuantizedActivations& activations) {
    activations_ = DeviceBuffer<std::byte>{activations.values, stream_};
    row_scales_ = DeviceBuffer<float>{activations.scales, stream_};
  }

  /// The output of kLaunches launches on one workspace, which must be the same of all and within its bounds.
  std::vector<std::uint16_t> multiply(const GemmPlan& plan, bool with_bias) const {
    constexpr std::size_t kGuard = 256;
    const std::size_t size = at(plan.m.value * shape_.n.value);
    DeviceBuffer<std::byte> workspace{plan.workspace_bytes + kGuard};
    workspace.fill_bytes(0xff, stream_);
    MPK_CUDA(cudaMemsetAsync(workspace.data(), 0, plan.counter_bytes, stream_.get()));
    std::vector<std::uint16_t> first;
    for (int launch = 0; launch < kLaunches; ++launch) {
      DeviceBuffer<std::uint16_t> out{size + kGuard};
      out.fill_bytes(0xff, stream_);
      launch_once(plan, with_bias, out, workspace);
      std::vector<std::uint16_t> host = out.to_host(stream_);
      REQUIRE(std::all_of(host.begin() + static_cast<std::ptrdiff_t>(size), host.end(),
                          [](std::uint16_t bits) { return bits == 0xffff; }));
      host.resize(size);
      if (launch == 0)
        first = std::move(host);
      else
        REQUIRE(host == first);
    }
    const std::vector<std::byte> left = workspace.to_host(stream_);
    for (std::size_t i = 0; i < left.size(); ++i)
      if (i < plan.counter_bytes)
        REQUIRE(left[i] == std::byte{0});
      else if (i >= plan.workspace_bytes)
        REQUIRE(left[i] == std::byte{0xff});
    return first;
  }

  /// Where every tile is shared by several blocks that come in any order, and none is told that it came last:
  /// is something written all the same?
  bool writes_unless_last(const GemmPlan& plan) const {
    DeviceBuffer<std::byte> workspace{plan.workspace_bytes};
    workspace.fill_bytes(0x40, stream_);  // counters that are far beyond any number of blocks
    DeviceBuffer<std::uint16_t> out{at(plan.m.value * shape_.n.value)};
    out.fill_bytes(0xff, stream_);
    launch_once(plan, false, out, workspace);
    const std::vector<std::uint16_t> host = out.to_host(stream_);
    return std::ranges::any_of(host, [](std::uint16_t bits) { return bits != 0xffff; });
  }

 private:
  void launch_once(const GemmPlan& plan, bool with_bias, DeviceBuffer<std::uint16_t>& out,
                   DeviceBuffer<std::byte>& workspace) const {
    gemm(plan,
         {.activations = activations_.data(),
          .row_scales = row_scales_.data(),
          .words = words_.data(),
          .scales = scales_.data(),
          .zero_points = zero_points_.data(),
          .perm = perm_.data(),
          .bias = with_bias ? bias_.data() : nullptr,
          .global_scale = global_scale_,
          .out = out.data(),
          .workspace = workspace.data()},
         stream_.get());
  }

  LayerShape shape_;
  Stream stream_;
  DeviceBuffer<std::uint32_t> words_;
  DeviceBuffer<std::byte> scales_;
  DeviceBuffer<std::uint32_t> zero_points_;
  DeviceBuffer<std::int32_t> perm_;
  DeviceBuffer<std::uint16_t> bias_;
  float global_scale_;
  DeviceBuffer<std::byte> activations_;
  DeviceBuffer<float> row_scales_;
};

/// Products of the first m rows for every m, by every family, against one reference for all of `most` rows.
template <class Activations>
void check_within_bound(const PackedLayer& layer, const Activations& activations, M most,
                        std::initializer_list<int> rows) {
  const LayerShape& shape = layer.shape;
  const GpuReference exact = exact_product(layer, activations, most);
  const GpuTraits gpu = current_gpu_traits();
  DeviceLayer device{layer};
  device.set_activations(activations);
  bool with_bias = false;
  for (const int m_size : rows) {
    const M m{m_size};
    for (const GemmFamily family : families()) {
      const GemmPlan plan = plan_gemm(shape, m, gpu, family);
      CAPTURE(describe(plan), shape.group_size ? shape.group_size->value : -1, shape.k.value, shape.n.value,
              m_size, with_bias);
      const Comparison result =
          compare(layer, activations, m, device.multiply(plan, with_bias), exact, with_bias);
      if (result.first) FAIL_CHECK(*result.first);
      CHECK(result.worst > 0);
    }
    with_bias = !with_bias;
  }
}

/// Whole numbers, with a bias, by every row of the tables that takes the layer and in every way to end a tile
/// (by itself, in a cluster, in stripes), at the first of `rows` that it is offered for.
template <class Activations>
void check_every_row(const PackedLayer& layer, const Activations& activations, M most,
                     std::initializer_list<int> rows) {
  const GpuReference exact = exact_product(layer, activations, most);
  const GpuTraits gpu = current_gpu_traits();
  DeviceLayer device{layer};
  device.set_activations(activations);
  std::set<std::tuple<GemmFamily, int, int>> seen;
  for (const int m_size : rows) {
    const M m{m_size};
    const auto expected = rounded(layer, m, exact);
    for (const GemmFamily family : families())
      for (const GemmPlan& plan : gemm_plans(layer.shape, m, gpu, family)) {
        if (!seen.emplace(family, plan.variant, std::min(plan.partition.parts, 2)).second) continue;
        CAPTURE(describe(plan), m_size);
        CHECK(differences(device.multiply(plan, true), expected) == 0);
      }
  }
}

/// Of a tile that several stripes share only the block that comes last writes: which that is, and what the
/// others do meanwhile, is a matter of time, and a wrong write may be overwritten by the right one.
template <class Activations>
void check_only_the_last_writes(const PackedLayer& layer, const Activations& activations, M m) {
  DeviceLayer device{layer};
  device.set_activations(activations);
  const GpuTraits many{gpu_status().capability, 10000};  // so many that every unit has a block of its own
  int shared = 0;
  for (const GemmFamily family : families())
    for (const GemmPlan& plan : gemm_plans(layer.shape, m, many, family)) {
      const Partition& p = plan.partition;
      if (p.parts != 0 || p.blocks != p.units() || p.stages_per_tile == 1) continue;
      CAPTURE(describe(plan));
      CHECK_FALSE(device.writes_unless_last(plan));
      ++shared;
    }
  CHECK(shared > 0);
}

/// As if clusters always fitted.
inline decltype(GpuTraits::clusters) every_cluster(int sms) {
  decltype(GpuTraits::clusters) clusters{};
  for (int blocks = 1; blocks <= GpuTraits::kMaxBlocksPerSm; ++blocks)
    for (int size = 1; size <= GpuTraits::kMaxCluster; ++size)
      clusters[at(blocks - 1)][at(size)] = blocks * sms / size;
  return clusters;
}
/// Whole numbers, with a bias, whatever GPU the work is divided for, and in whichever way that may be chosen.
template <class Activations>
void check_every_plan(const PackedLayer& layer, const Activations& activations, M m) {
  const auto expected = rounded(layer, m, exact_product(layer, activations, m));
  DeviceLayer device{layer};
  device.set_activations(activations);
  for (const GemmFamily family : families())
    for (const int sms : {1, 5, 132, 10000})
      for (const bool clusters : {false, true}) {
        if (clusters && (family != GemmFamily::hopper || sms > 132)) continue;
        GpuTraits gpu{gpu_status().capability, sms};
        if (clusters) gpu.clusters = every_cluster(sms);
        std::set<std::string> seen;
        for (const GemmPlan& plan : gemm_plans(layer.shape, m, gpu, family)) {
          // Many multiprocessors offer the same divisions of a small layer.
          if (!seen.insert(describe(plan)).second) continue;
          CAPTURE(describe(plan), layer.shape.group_size ? layer.shape.group_size->value : -1, m.value, sms,
                  clusters);
          CHECK(differences(device.multiply(plan, true), expected) == 0);
        }
      }
}

}  // namespace mpk::test
