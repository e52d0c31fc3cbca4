// What is decided before a launch needs no GPU.

#include "kernels/gemm.hpp"
#include "packer/format/error.hpp"
#include "tests/kernels/layer.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

constexpr GpuTraits kAmpere{80, 108};

LayerShape layer(Weight type, std::optional<GroupSize> group, std::int64_t k, std::int64_t n) {
  return {type, group, K{k}, N{n}};
}

/// The message of the refusal; empty if it was accepted.
std::string refusal(const LayerShape& shape) {
  try {
    require_gemm(shape);
  } catch (const Error& error) {
    REQUIRE(error.kind() == ErrorKind::unsupported);
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("every layer that the packer writes has a kernel on every GPU", "[kernels]") {
  for (const Kind kind : kKinds)
    for (const int group_size : group_sizes(kind.weight)) {
      CAPTURE(name_of(kind.weight), name_of(kind.activations), group_size);
      const LayerShape shape = layer_of(kind, group_size, 4096, 11008);
      REQUIRE(refusal(shape).empty());
      REQUIRE_NOTHROW(plan_gemm(shape, M{1}, kAmpere));
      REQUIRE_NOTHROW(plan_gemm(shape, M{1}, GpuTraits{90, 132}, GemmFamily::mma_sync));
      REQUIRE(plan_gemm(shape, M{1}, GpuTraits{90, 132}).family == GemmFamily::hopper);
      const std::string row = std::string{name_of(kind.weight)} + " " + name_of(kind.activations) + " ";
      REQUIRE(gemm_table().find("mma.sync (8.0 on) " + row) != std::string::npos);
    }
  REQUIRE(refusal(layer(Weight::u4b8, std::nullopt, 16, 64)).empty());
  REQUIRE(refusal(layer(Weight::u4b8, GroupSize{256}, 256, 128)).empty());  // one group: one scale per column
}

TEST_CASE("every layer for 8-bit activations has a kernel; FP8 from 8.9 on", "[kernels][a8]") {
  for (const Kind kind : kinds8())
    for (const int group_size : group_sizes(kind.weight)) {
      CAPTURE(name_of(kind.weight), name_of(*kind.activations8), name_of(kind.activations), group_size);
      const LayerShape shape = layer_of(kind, group_size, 4096, 11008);
      REQUIRE(refusal(shape).empty());
      for (const int m : {1, 32, 33, 1000}) {
        const GemmPlan plan = plan_gemm(shape, M{m}, GpuTraits{90, 132});
        REQUIRE(plan.family == GemmFamily::hopper);
        REQUIRE(describe(plan).find("hopper " + std::string{name_of(kind.weight)} + " " +
                                    name_of(*kind.activations8) + " to ") == 0);
      }
      REQUIRE_NOTHROW(plan_gemm(shape, M{1}, GpuTraits{90, 132}, GemmFamily::mma_sync));
      const bool fp8 = kind.activations8 == Activation8::e4m3;
      if (fp8)
        REQUIRE_THROWS_AS(plan_gemm(shape, M{1}, kAmpere), Error);
      else
        REQUIRE_NOTHROW(plan_gemm(shape, M{1}, kAmpere));
      const std::string row = std::string{"mma.sync ("} + (fp8 ? "8.9" : "8.0") + " on) " +
                              name_of(kind.weight) + " " + name_of(*kind.activations8) + " to " +
                              name_of(kind.activations) + " ";
      REQUIRE(gemm_table().find(row) != std::string::npos);
    }
}

TEST_CASE("what no kernel multiplies with 8-bit activations is refused", "[kernels][a8]") {
  const auto layer8 = [](Weight weight, Activation8 activations, int group_size, std::int64_t k) {
    return layer_of({weight, Float::f16, activations}, group_size, k, 128);
  };
  REQUIRE(refusal(layer8(Weight::u4b8, Activation8::int8, 128, 256)).empty());
  REQUIRE(refusal(layer8(Weight::u4b8, Activation8::int8, -1, 131040)).empty());
  LayerShape sorted = layer8(Weight::u4b8, Activation8::e4m3, 128, 256);
  sorted.act_order = true;
  const std::pair<LayerShape, const char*> cases[] = {
      {layer8(Weight::u4b8, Activation8::int8, -1, 48), "K = 48"},
      {layer8(Weight::u4b8, Activation8::int8, -1, 131072), "32 bits"},
      {layer8(Weight::u4b8, Activation8::e4m3, 16, 256), "group size 16"},
      {layer8(Weight::u8b128, Activation8::e4m3, -1, 256), "weight type"},
      {layer8(Weight::e4m3, Activation8::e4m3, -1, 256), "weight type"},
      {layer8(Weight::mxfp4, Activation8::int8, 32, 256), "weight type"},
      {layer8(Weight::mxfp4, Activation8::e4m3, 64, 256), "group size"},
      {sorted, "act_order"},
  };
  for (const auto& [shape, reason] : cases) {
    const std::string message = refusal(shape);
    CAPTURE(message);
    REQUIRE(message.find(reason) != std::string::npos);
  }
}

TEST_CASE("a group as long as K is one scale per column, but not of bytes", "[kernels]") {
  REQUIRE_FALSE(layer(Weight::u4b8, GroupSize{128}, 128, 64).grouped());
  REQUIRE(layer(Weight::u4b8, GroupSize{128}, 256, 64).grouped());
  const LayerShape bytes = layer(Weight::nvfp4, GroupSize{16}, 16, 64);
  REQUIRE(bytes.grouped());
  REQUIRE(bytes.groups() == 1);
}

TEST_CASE("what no kernel handles is refused, with the table", "[kernels]") {
  const auto [shape, reason] = GENERATE(table<LayerShape, std::string>({
      {layer(Weight::nvfp4, GroupSize{32}, 256, 128), "group size"},
      {layer(Weight::mxfp4, GroupSize{32}, 256, 128), "bf16"},
      {layer(Weight::u4b8, GroupSize{16}, 256, 128), "group size"},
      {layer(Weight::u4b8, GroupSize{256}, 512, 128), "group size 256"},
      {layer(Weight::u4b8, GroupSize{128}, 192, 128), "does not divide"},
      {layer(Weight::u4b8, std::nullopt, 24, 128), "K = 24"},
      {layer(Weight::u8b128, std::nullopt, 256, 96), "N = 96"},
      {layer(Weight::u8b128, std::nullopt, 0, 64), "K = 0"},
  }));
  const std::string message = refusal(shape);
  CAPTURE(message);
  REQUIRE(message.find(reason) != std::string::npos);
  REQUIRE(message.find(gemm_table()) != std::string::npos);
}

TEST_CASE("a plan knows its workspace", "[kernels]") {
  const LayerShape shape = layer(Weight::u4b8, GroupSize{128}, 4096, 4096);
  for (const int m : {1, 16, 17, 64, 1000}) {
    const GemmPlan plan = plan_gemm(shape, M{m}, kAmpere);
    CAPTURE(m, plan.variant);
    REQUIRE(plan.partition.tiles() > 0);
    REQUIRE(plan.counter_bytes >= static_cast<std::size_t>(plan.partition.tiles()) * 4);
    REQUIRE(plan.counter_bytes % 16 == 0);
    REQUIRE(plan.workspace_bytes > plan.counter_bytes);
  }
  REQUIRE(plan_gemm(shape, M{16}, kAmpere).variant == plan_gemm(shape, M{1}, kAmpere).variant);
  REQUIRE(plan_gemm(shape, M{17}, kAmpere).variant != plan_gemm(shape, M{16}, kAmpere).variant);
  REQUIRE_THROWS_AS(plan_gemm(shape, M{0}, kAmpere), Error);
  REQUIRE_THROWS_AS(plan_gemm(shape, M{std::int64_t{1} << 40}, kAmpere), Error);
}
