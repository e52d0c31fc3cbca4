// The second decoders of the Marlin family, on every type and group that the rows write.

#include "packer/format/error.hpp"
#include "tests/support/catch.hpp"
#include "verify/fragment_decoder.hpp"
#include "verify/layer_check.hpp"
#include "verify/synthetic.hpp"

using namespace mpk;

namespace {

std::vector<Scheme> schemes() {
  std::vector<Scheme> all;
  const auto add = [&](ScalarType type, std::int64_t group, DType scales, auto change) {
    Scheme scheme{type, group_size_from_number(group), scales};
    change(scheme);
    all.push_back(scheme);
  };
  const auto nothing = [](Scheme&) {};
  for (const DType scales : {DType::F16, DType::BF16})
    for (const std::int64_t group : {-1, 32, 64, 128})
      for (const int bits : {4, 8})
        for (const bool zeros : {false, true})
          for (const bool act_order : {false, true})
            for (const bool int8 : {false, true})
              add(zeros ? unsigned_integer(bits) : symmetric_integer(bits), group, scales,
                  [&](Scheme& scheme) {
                    if (zeros) scheme.zero_points = ZeroPoints::integer;
                    scheme.act_order = act_order;
                    if (int8) scheme.activations = DType::I8;
                  });
  for (const DType scales : {DType::F16, DType::BF16})
    for (const std::int64_t group : {-1, 32, 64, 128})
      for (const bool act_order : {false, true})
        add(kU4, group, scales, [&](Scheme& scheme) {
          scheme.zero_points = ZeroPoints::floating;
          scheme.act_order = act_order;
        });
  for (const DType scales : {DType::F16, DType::BF16})
    for (const std::int64_t group : {-1, 128}) add(kE4M3, group, scales, nothing);
  for (const auto activations :
       {std::optional<DType>{}, std::optional{DType::F16}, std::optional{DType::BF16}})
    for (const GlobalScale global : {GlobalScale::multiplies})
      add(kE2M1, 16, DType::F8_E4M3, [&](Scheme& scheme) {
        scheme.global_scale = global;
        scheme.activations = activations;
      });
  for (const ScalarType type : {kE2M1, kE4M3}) add(type, 32, DType::F8_E8M0, nothing);
  return all;
}

}  // namespace

TEST_CASE("packer and second decoder agree on the whole Marlin family", "[verify][marlin]") {
  struct Size {
    std::int64_t k, n;
  };
  const Size size = GENERATE(Size{128, 256}, Size{64, 128}, Size{384, 192});
  int compared = 0;
  for (const Scheme& scheme : schemes())
    for (const char* name : {"marlin", "marlin-original", "marlin-a8", "marlin-24"}) {
      const WeightFormat& format = *weight_format_named(name);
      const K k{size.k};
      const N n{size.n};
      if (format.refusal(scheme, k, n)) continue;
      ++compared;
      INFO(name << " " << to_string(scheme) << " " << size.k << "x" << size.n);
      const SyntheticLayer layer = synthetic_layer(format, scheme, k, n, test::seed());
      const PartViews parts = views_of(layer.parts);
      const QuantizedMatrix packer = format.decode(parts, scheme, k, n);
      const QuantizedMatrix second = decode_by_fragments(name, parts, scheme, k, n);
      CHECK(packer.codes == second.codes);
      CHECK(packer.scales == second.scales);
      CHECK(packer.zero_points == second.zero_points);
      CHECK(packer.float_zeros == second.float_zeros);
      CHECK(packer.g_idx == second.g_idx);
      CHECK(packer.global_scale == second.global_scale);
      const CheckedLayer checked = check_layer(layer.record, parts, {false, {M{1}, M{5}}, 3});
      CAPTURE(checked.check.failures);
      CHECK(checked.check.failures.empty());
      CHECK(checked.check.worst_product() > 0);
    }
  CHECK(compared >= 30);
}
