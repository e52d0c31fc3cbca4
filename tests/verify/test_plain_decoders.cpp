// The second decoders of the integer formats, in what test_fragment_decoder leaves out: odd sizes, every
// width of codes, scales of 32 bits and one scale for all.

#include "packer/format/error.hpp"
#include "tests/support/catch.hpp"
#include "verify/fragment_decoder.hpp"
#include "verify/layer_check.hpp"
#include "verify/synthetic.hpp"

using namespace mpk;

namespace {

struct Case {
  const char* format;
  std::int64_t k, n;
  std::optional<GroupSize> group_size;
  DType scale_dtype = DType::F16;
};

void check_agreement(const Case& c, const Scheme& scheme) {
  CAPTURE(c.format, c.k, c.n, to_string(scheme));
  const WeightFormat& format = *weight_format_named(c.format);
  if (format.refusal(scheme, K{c.k}, N{c.n})) return;
  SyntheticLayer layer = synthetic_layer(format, scheme, K{c.k}, N{c.n}, test::seed());
  const PartViews parts = views_of(layer.parts);
  const QuantizedMatrix packer = format.decode(parts, scheme, K{c.k}, N{c.n}),
                        plain = decode_by_fragments(format.name, parts, scheme, K{c.k}, N{c.n});
  CHECK(packer.codes == plain.codes);
  CHECK(packer.scales == plain.scales);
  CHECK(packer.zero_points == plain.zero_points);
  CHECK(packer.g_idx == plain.g_idx);

  for (const Part& part : layer.parts) {  // too small
    PartViews less = parts;
    less.at(part.suffix).data = less.at(part.suffix).data.subspan(1);
    CHECK_THROWS_AS(decode_by_fragments(format.name, less, scheme, K{c.k}, N{c.n}), Error);
  }
}

}  // namespace

TEST_CASE("plain decoders agree with the packer on odd sizes and every width", "[verify][integer]") {
  const Case c = GENERATE(values<Case>({
      {"awq", 7, 8, {}, DType::BF16},
      {"awq", 96, 136, GroupSize{48}},
      {"awq-gemv", 1024, 17, GroupSize{32}, DType::BF16},
      {"awq-gemv", 320, 130, GroupSize{64}},
      {"awq-gemv", 2560, 3, GroupSize{256}},
      {"awq-gemv-fast", 1024, 12, GroupSize{32}, DType::BF16},
      {"awq-gemv-fast", 320, 136, GroupSize{64}},
      {"awq-gemv-fast", 192, 4, {}},
      {"ct-pack-quantized", 101, 131, {}, DType::F32},
      {"ct-pack-quantized", 333, 45, GroupSize{32}, DType::BF16},
      {"ct-int-quantized", 101, 131, GroupSize{10}, DType::F32},
  }));
  for (int bits = 2; bits <= 8; ++bits)
    for (const bool zeros : {false, true})
      for (const bool act_order : {false, true}) {
        Scheme scheme{symmetric_integer(bits), c.group_size, c.scale_dtype};
        scheme.act_order = act_order;
        if (zeros) {
          scheme.type = unsigned_integer(bits);
          scheme.zero_points = ZeroPoints::integer;
        }
        check_agreement(c, scheme);
      }
}

TEST_CASE("plain decoders spread one scale over the matrix", "[verify][integer]") {
  const WeightFormat& format =
      *weight_format_named(GENERATE(as<const char*>{}, "ct-pack-quantized", "ct-int-quantized"));
  Scheme scheme{kU8B128, std::nullopt, DType::F32};
  scheme.columns_per_scale = Scheme::kAllColumns;
  QuantizedMatrix q = make_matrix(scheme, K{64}, N{33});
  q.codes.setConstant(7);
  q.scales.setConstant(0.1f);
  const std::vector<Part> parts = format.encode(q);
  const QuantizedMatrix plain = decode_by_fragments(format.name, views_of(parts), scheme, K{64}, N{33});
  CHECK(plain.codes == q.codes);
  CHECK(plain.scales == q.scales);
}
