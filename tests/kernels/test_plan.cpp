// What is decided before a launch needs no GPU.

#include "kernels/gemm.hpp"
#include "packer/format/error.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

namespace {

LayerShape layer(ScalarType type, std::optional<GroupSize> group, std::int64_t k, std::int64_t n) {
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

TEST_CASE("every layer that the packer writes has a kernel", "[kernels]") {
  for (const ScalarType type : {kU4B8, kU8B128}) {
    for (const int group : {32, 64, 128})
      REQUIRE(refusal(layer(type, GroupSize{group}, 4096, 11008)).empty());
    REQUIRE(refusal(layer(type, std::nullopt, 256, 128)).empty());
    REQUIRE(refusal(layer(type, std::nullopt, 16, 64)).empty());
    REQUIRE(refusal(layer(type, GroupSize{256}, 256, 128)).empty());  // one group: one scale per column
  }
}

TEST_CASE("what no kernel handles is refused, with the table", "[kernels]") {
  const auto [shape, reason] = GENERATE(table<LayerShape, std::string>({
      {layer({4, 0}, GroupSize{128}, 256, 128), "weight type"},
      {layer({2, 2}, GroupSize{128}, 256, 128), "weight type"},
      {layer(kU4B8, GroupSize{16}, 256, 128), "group size"},
      {layer(kU4B8, GroupSize{256}, 512, 128), "group size 256"},
      {layer(kU4B8, GroupSize{128}, 192, 128), "does not divide"},
      {layer(kU4B8, std::nullopt, 24, 128), "K = 24"},
      {layer(kU8B128, std::nullopt, 256, 96), "N = 96"},
      {layer(kU8B128, std::nullopt, 0, 64), "K = 0"},
  }));
  const std::string message = refusal(shape);
  CAPTURE(message);
  REQUIRE(message.find(reason) != std::string::npos);
  REQUIRE(message.find(gemm_table()) != std::string::npos);
}

TEST_CASE("a plan knows its workspace", "[kernels]") {
  const LayerShape shape = layer(kU4B8, GroupSize{128}, 4096, 4096);
  for (const int m : {1, 16, 17, 64, 1000}) {
    const GemmPlan plan = plan_gemm(shape, M{m}, 132);
    CAPTURE(m, plan.variant);
    REQUIRE(plan.partition.tiles() > 0);
    REQUIRE(plan.counter_bytes >= static_cast<std::size_t>(plan.partition.tiles()) * 4);
    REQUIRE(plan.counter_bytes % 16 == 0);
    REQUIRE(plan.workspace_bytes > plan.counter_bytes);
  }
  REQUIRE(plan_gemm(shape, M{16}, 132).variant == plan_gemm(shape, M{1}, 132).variant);
  REQUIRE(plan_gemm(shape, M{17}, 132).variant != plan_gemm(shape, M{16}, 132).variant);
  REQUIRE_THROWS_AS(plan_gemm(shape, M{0}, 132), Error);
  REQUIRE_THROWS_AS(plan_gemm(shape, M{std::int64_t{1} << 40}, 132), Error);
}
