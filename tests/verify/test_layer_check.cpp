// Artifacts for 8-bit activations, proved by the kernels where there is a GPU.

#include <string>
#include <vector>

#include "kernels/gpu.hpp"
#include "tests/support/catch.hpp"
#include "verify/layer_check.hpp"
#include "verify/synthetic.hpp"

using namespace mpk;

namespace {

std::vector<Scheme> schemes() {
  std::vector<Scheme> all;
  for (const DType scales : {DType::F16, DType::BF16}) {
    for (const std::optional<DType> activations : {std::optional<DType>{}, std::optional{DType::I8}}) {
      all.push_back({.type = kU4B8, .group_size = {}, .scale_dtype = scales, .activations = activations});
      all.push_back({.type = kU4,
                     .group_size = {},
                     .scale_dtype = scales,
                     .zero_points = ZeroPoints::integer,
                     .activations = activations});
    }
    all.push_back({.type = kU4B8, .group_size = GroupSize{128}, .scale_dtype = scales});
    all.push_back({.type = kU8B128, .group_size = {}, .scale_dtype = scales});
  }
  all.push_back({.type = kE2M1, .group_size = GroupSize{32}, .scale_dtype = DType::F8_E8M0});
  return all;
}

SyntheticLayer layer_of(const Scheme& scheme) {
  return synthetic_layer(*weight_format_named("marlin-a8"), scheme, K{384}, N{320}, test::seed());
}

}  // namespace

TEST_CASE("GPU: the kernels prove artifacts for 8-bit activations", "[verify][gpu][a8]") {
  if (!gpu_status().usable) MPK_SKIP(gpu_status().reason);
  for (const Scheme& scheme : schemes()) {
    CAPTURE(to_string(scheme));
    const SyntheticLayer layer = layer_of(scheme);
    const LayerCheck check = check_layer(layer.record, views_of(layer.parts), {true, {M{1}, M{70}}, 3}).check;
    CAPTURE(check.failures);
    CHECK(check.failures.empty());
    CHECK(check.worst_product() > 0);
    const bool fp8 = weight_format_named("marlin-a8")->activations(scheme) == DType::F8_E4M3;
    CHECK(check.kernel ==
          (fp8 && gpu_status().capability < kFp8Capability ? "CPU decoder" : gpu_status().name));
  }
}
