#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "tests/support/catch.hpp"
#include "verify/activations.hpp"
#include "verify/gemm_check.hpp"
#include "verify/synthetic.hpp"

using namespace mpk;

namespace {

struct Case {
  QuantizedMatrix q;
  std::vector<std::uint16_t> activations, output;
  Reference reference;
  M m{7};

  explicit Case(const Scheme& scheme, K k = K{256}, N n = N{128}) {
    const WeightFormat& format = *weight_format_named("marlin");
    const SyntheticLayer layer = synthetic_layer(format, scheme, k, n, test::seed());
    q = format.decode(views_of(layer.parts), scheme, k, n);
    const Float type = activation_type(scheme);
    activations = outlier_activations(m, k, test::seed(), type);
    output = emulate_kernel(q, activations, m);
    reference = reference_product(dequantize(q), activations, m, type);
  }
  GemmCheck check() const { return check_product(output, reference, activations, q.scheme, q.k(), q.n(), m); }
};

/// Everything that "marlin" holds and a kernel multiplies.
std::vector<Scheme> schemes() {
  std::vector<Scheme> all;
  for (const DType scales : {DType::F16, DType::BF16})
    for (const std::optional<GroupSize> group :
         {std::optional<GroupSize>{}, std::optional{GroupSize{32}}, std::optional{GroupSize{128}}}) {
      all.push_back({.type = kU4B8, .group_size = group, .scale_dtype = scales});
      all.push_back({.type = kU8B128, .group_size = group, .scale_dtype = scales});
      all.push_back(
          {.type = kU4, .group_size = group, .scale_dtype = scales, .zero_points = ZeroPoints::integer});
      all.push_back(
          {.type = kU4, .group_size = group, .scale_dtype = scales, .zero_points = ZeroPoints::floating});
      if (group) {
        all.push_back({.type = kU4B8, .group_size = group, .scale_dtype = scales, .act_order = true});
        all.push_back({.type = kU4,
                       .group_size = group,
                       .scale_dtype = scales,
                       .zero_points = ZeroPoints::floating,
                       .act_order = true});
      }
      if (!group || group->value == 128)
        all.push_back({.type = kE4M3, .group_size = group, .scale_dtype = scales});
    }
  for (const DType activations : {DType::F16, DType::BF16})
    all.push_back({.type = kE2M1,
                   .group_size = GroupSize{16},
                   .scale_dtype = DType::F8_E4M3,
                   .global_scale = GlobalScale::multiplies,
                   .activations = activations});
  all.push_back({.type = kE2M1, .group_size = GroupSize{32}, .scale_dtype = DType::F8_E8M0});
  return all;
}

}  // namespace

TEST_CASE("the kernel's own roundings stay inside the bound, and are not nothing", "[verify]") {
  for (const Scheme& scheme : schemes()) {
    CAPTURE(to_string(scheme));
    const auto layer = kernel_layer(scheme, K{256}, N{128});
    REQUIRE(layer);
    REQUIRE(layer->activations == activation_type(scheme));
    const Case c{scheme};
    CAPTURE(c.check().worst);
    REQUIRE(c.check().passed());
    REQUIRE(c.check().worst > 0.01);
  }
}

TEST_CASE("emulated: a product with the identity is the weights with the kernel's roundings", "[verify]") {
  const bool grouped = GENERATE(false, true);
  Scheme scheme{.type = kU4, .group_size = {}, .zero_points = ZeroPoints::floating};
  if (grouped) scheme.group_size = GroupSize{32};
  Case c{scheme, K{64}, N{128}};
  std::vector<std::uint16_t> identity(64 * 64);
  for (std::size_t i = 0; i < 64; ++i) identity[i * 65] = to_bits(1.0f, Float::f16);
  const auto output = emulate_kernel(c.q, identity, M{64});
  const auto rounded = [](float value) { return to_float(to_bits(value, Float::f16), Float::f16); };
  int otherwise = 0;  // than a weight that is rounded once
  for (std::int64_t k = 0; k < 64; ++k)
    for (std::int64_t n = 0; n < 128; ++n) {
      const std::int64_t group = grouped ? k / 32 : 0;
      const float difference = static_cast<float>(c.q.codes(k, n)) - c.q.float_zeros(group, n),
                  scale = c.q.scales(group, n);
      const float actual = to_float(output[static_cast<std::size_t>(k * 128 + n)], Float::f16);
      REQUIRE(actual == rounded(rounded(difference) * scale));
      if (actual != rounded(difference * scale)) ++otherwise;
    }
  REQUIRE(otherwise > 0);
}

TEST_CASE("bf16 where the scheme says so, f16 where it says nothing", "[verify]") {
  REQUIRE(activation_type({}) == Float::f16);
  REQUIRE(activation_type({.type = kU4B8, .group_size = {}, .scale_dtype = DType::BF16}) == Float::bf16);
  REQUIRE(activation_type({.type = kE2M1, .group_size = GroupSize{32}, .scale_dtype = DType::F8_E8M0}) ==
          Float::bf16);
  const Scheme nvfp4{.type = kE2M1,
                     .group_size = GroupSize{16},
                     .scale_dtype = DType::F8_E4M3,
                     .global_scale = GlobalScale::multiplies};
  REQUIRE(activation_type(nvfp4) == Float::f16);
}

TEST_CASE("what no kernel multiplies with is none", "[verify]") {
  const Scheme scheme = GENERATE(values<Scheme>({
      {.type = kU8, .group_size = {}, .zero_points = ZeroPoints::integer},
      {.type = kU8, .group_size = {}, .zero_points = ZeroPoints::floating},
      {.type = kE4M3, .group_size = GroupSize{32}, .scale_dtype = DType::F8_E8M0},
      {.type = kE4M3, .group_size = {}, .scale_dtype = DType::F16, .scales_divide = true},
      {.type = kU4B8, .group_size = {}, .scale_dtype = DType::F32},
      {.type = kU4B8, .group_size = {}, .activations = DType::I8},
      {.type = kE2M1,
       .group_size = GroupSize{16},
       .scale_dtype = DType::F8_E4M3,
       .global_scale = GlobalScale::divides},
  }));
  CAPTURE(to_string(scheme));
  REQUIRE_FALSE(kernel_layer(scheme, K{256}, N{128}));
}

TEST_CASE("one wrong weight, one stale output, a NaN: outside the bound", "[verify]") {
  Case c{{kU4B8, GroupSize{128}, DType::F16}};
  SECTION("a code off by eight in one output") {
    c.q.codes(100, 17) ^= 8;
    c.output = emulate_kernel(c.q, c.activations, c.m);
  }
  SECTION("an output left as poison") {
    c.output[200] = 0x7e00;
  }
  SECTION("an infinity") {
    c.output[200] = 0x7c00;
  }
  SECTION("two outputs exchanged") {
    std::swap(c.output[11], c.output[12]);
  }
  SECTION("the scale of another group") {
    c.q.scales.row(0).swap(c.q.scales.row(1));
    c.output = emulate_kernel(c.q, c.activations, c.m);
  }
  REQUIRE_FALSE(c.check().passed());
}

TEST_CASE("activations are the same bits for the same seed, carry outliers and are finite", "[verify]") {
  const Float type = GENERATE(Float::f16, Float::bf16);
  const auto a = outlier_activations(M{64}, K{512}, 5, type);
  REQUIRE(a == outlier_activations(M{64}, K{512}, 5, type));
  REQUIRE(a != outlier_activations(M{64}, K{512}, 6, type));
  float largest = 0;
  double energy = 0;
  for (const std::uint16_t bits : a) {
    const float value = to_float(bits, type);
    REQUIRE(std::isfinite(value));
    largest = std::max(largest, std::abs(value));
    energy += static_cast<double>(value) * value;
  }
  REQUIRE(largest > 20);  // 40 times the deviation in an outlier channel
  REQUIRE(energy / static_cast<double>(a.size()) > 0.25);
}
