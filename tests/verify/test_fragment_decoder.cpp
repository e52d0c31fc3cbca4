// The two decoders share no code: they must agree on everything the packer writes, and disagree as soon as a
// bit moves.

#include "packer/format/error.hpp"
#include "tests/support/catch.hpp"
#include "verify/fragment_decoder.hpp"
#include "verify/layer_check.hpp"
#include "verify/synthetic.hpp"

using namespace mpk;

namespace {

struct Shape2 {
  std::int64_t k, n;
};

}  // namespace

TEST_CASE("packer and fragment decoder read the same matrix", "[verify]") {
  const Shape2 shape = GENERATE(Shape2{128, 256}, Shape2{256, 512}, Shape2{384, 256});
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const std::int64_t group = GENERATE(-1, 32, 64, 128);
  Scheme scheme{type, group < 0 ? std::nullopt : std::optional{GroupSize{group}}, DType::F16};
  if (GENERATE(false, true)) {
    scheme.type = unsigned_integer(type.bits);
    scheme.zero_points = ZeroPoints::integer;
  }
  scheme.act_order = group > 0 && GENERATE(false, true);
  for (const WeightFormat& format : weight_formats()) {
    if (!format.writes() || format.refusal(scheme, K{shape.k}, N{shape.n})) continue;
    CAPTURE(format.name, shape.k, shape.n, type.bits, group);
    const SyntheticLayer layer = synthetic_layer(format, scheme, K{shape.k}, N{shape.n}, test::seed());
    const PartViews parts = views_of(layer.parts);
    const QuantizedMatrix packer = format.decode(parts, scheme, K{shape.k}, N{shape.n});
    const QuantizedMatrix fragments = decode_by_fragments(format.name, parts, scheme, K{shape.k}, N{shape.n});
    REQUIRE(packer.codes == fragments.codes);
    REQUIRE(packer.scales == fragments.scales);
    REQUIRE(packer.zero_points == fragments.zero_points);
    REQUIRE(packer.g_idx == fragments.g_idx);

    const CheckedLayer checked = check_layer(layer.record, parts, {false, {M{1}, M{5}}, 3});
    CAPTURE(checked.check.failures);
    REQUIRE(checked.check.failures.empty());
  }
}

TEST_CASE("a flipped bit of a weight or a scale is seen by decoding alone", "[verify]") {
  const Scheme scheme{kU4B8, GroupSize{64}, DType::F16};
  SyntheticLayer layer = synthetic_layer(*weight_format_named("marlin"), scheme, K{128}, N{128}, 1);
  SECTION("weight") {
    layer.parts[0].tensor.data[77] ^= std::byte{16};
    REQUIRE_FALSE(check_layer(layer.record, views_of(layer.parts), {}).check.codes_recorded);
  }
  SECTION("record") {
    layer.record.scheme.group_size = GroupSize{128};
    REQUIRE_FALSE(check_layer(layer.record, views_of(layer.parts), {}).check.failures.empty());
  }
}

TEST_CASE("layouts without a drawing are refused", "[verify]") {
  REQUIRE_THROWS_AS(decode_by_fragments("ggml", {}, {}, K{16}, N{64}), Error);
}
