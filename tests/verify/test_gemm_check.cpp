#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "packer/format/float8.hpp"
#include "tests/support/catch.hpp"
#include "verify/activations.hpp"
#include "verify/gemm_check.hpp"
#include "verify/synthetic.hpp"

using namespace mpk;

namespace {

struct Case {
  QuantizedMatrix q;
  LayerArithmetic arithmetic;
  KernelActivations activations;
  std::vector<std::uint16_t> output;
  Reference reference;
  M m{7};

  explicit Case(const Scheme& scheme, const char* format_name = "marlin", K k = K{256}, N n = N{128}) {
    const WeightFormat& format = *weight_format_named(format_name);
    const SyntheticLayer layer = synthetic_layer(format, scheme, k, n, test::seed());
    q = format.decode(views_of(layer.parts), scheme, k, n);
    arithmetic = arithmetic_of(scheme, format.activations(scheme), k, n);
    activations = outlier_activations(m, k, test::seed(), roundings().output, roundings().activations8);
    multiply();
    reference = reference_product(dequantize(q), activations, m);
  }
  void take_whole_activations() {
    activations = whole_fp8_activations(m, q.k(), test::seed());
    arithmetic.roundings.exact_fp8 = true;
    multiply();
    reference = reference_product(dequantize(q), activations, m);
  }
  const GemmRoundings& roundings() const { return arithmetic.roundings; }
  void multiply() { output = emulate_kernel(q, arithmetic, activations, m); }
  GemmCheck check() const {
    return check_product(output, reference, activations, roundings(), q.k(), q.n(), m);
  }
};

Float output_of(const Scheme& scheme, const char* format = "marlin") {
  return arithmetic_of(scheme, weight_format_named(format)->activations(scheme), K{256}, N{128})
      .roundings.output;
}
bool has_kernel(const Scheme& scheme, DType activations) {
  return arithmetic_of(scheme, activations, K{256}, N{128}).kernel.has_value();
}

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

/// The same of "marlin-a8", with what it is multiplied by and what comes out.
struct Scheme8 {
  Scheme scheme;
  Activation8 activations;
  Float output;
};
std::vector<Scheme8> schemes8() {
  std::vector<Scheme8> all;
  for (const DType scales : {DType::F16, DType::BF16}) {
    const Float output = scales == DType::F16 ? Float::f16 : Float::bf16;
    const auto add = [&](Scheme scheme, Activation8 activations) {
      scheme.scale_dtype = scales;
      all.push_back({scheme, activations, output});
    };
    for (const std::optional<GroupSize> group :
         {std::optional<GroupSize>{}, std::optional{GroupSize{32}}, std::optional{GroupSize{128}}}) {
      add({.type = kU4B8, .group_size = group}, Activation8::e4m3);
      add({.type = kU4, .group_size = group, .zero_points = ZeroPoints::integer}, Activation8::e4m3);
    }
    add({.type = kU4B8, .group_size = {}, .activations = DType::I8}, Activation8::int8);
    add({.type = kU4, .group_size = {}, .zero_points = ZeroPoints::integer, .activations = DType::I8},
        Activation8::int8);
    add({.type = kU8B128, .group_size = {}}, Activation8::int8);
  }
  all.push_back({{.type = kE2M1, .group_size = GroupSize{32}, .scale_dtype = DType::F8_E8M0},
                 Activation8::e4m3,
                 Float::bf16});
  return all;
}

}  // namespace

TEST_CASE("the kernel's own roundings stay inside the bound, and are not nothing", "[verify]") {
  for (const Scheme& scheme : schemes()) {
    CAPTURE(to_string(scheme));
    const Case c{scheme};
    REQUIRE(c.arithmetic.kernel);
    REQUIRE_FALSE(c.roundings().activations8);
    CAPTURE(c.check().worst);
    REQUIRE(c.check().passed());
    REQUIRE(c.check().worst > 0.01);
  }
}

TEST_CASE("emulated: a product with the identity is the weights with the kernel's roundings", "[verify]") {
  const bool grouped = GENERATE(false, true);
  Scheme scheme{.type = kU4, .group_size = {}, .zero_points = ZeroPoints::floating};
  if (grouped) scheme.group_size = GroupSize{32};
  const Case c{scheme, "marlin", K{64}, N{128}};
  KernelActivations identity;
  identity.values.resize(64 * 64);
  for (std::size_t i = 0; i < 64; ++i) identity.values[i * 65] = 1.0f;
  const auto output = emulate_kernel(c.q, c.arithmetic, identity, M{64});
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

TEST_CASE("products of 8-bit activations stay inside the bound, and are not nothing", "[verify][a8]") {
  for (const auto& [scheme, activations, output] : schemes8()) {
    CAPTURE(to_string(scheme));
    const Case c{scheme, "marlin-a8"};
    REQUIRE(c.arithmetic.kernel);
    REQUIRE(c.arithmetic.kernel->activations8 == activations);
    REQUIRE(c.arithmetic.kernel->activations == output);
    REQUIRE(c.activations.bytes.size() == 7 * 256);
    REQUIRE(c.activations.row_scales.size() == 7);
    REQUIRE(c.activations.halves.empty());
    CAPTURE(c.check().worst);
    REQUIRE(c.check().passed());
    if (activations == Activation8::e4m3) {
      Case exact = c;
      exact.take_whole_activations();
      CAPTURE(exact.check().worst);
      CHECK(exact.check().passed());
      CHECK(exact.check().worst > 0.01);
    }
    // FP8's bound has room for tensor cores that keep 14 bits; these sums are float32.
    REQUIRE(c.check().worst > (activations == Activation8::int8 ? 0.01 : 1e-4));
  }
}

TEST_CASE("bf16 where the scheme says so, f16 where it says nothing", "[verify]") {
  const Scheme mxfp4{.type = kE2M1, .group_size = GroupSize{32}, .scale_dtype = DType::F8_E8M0};
  REQUIRE(output_of({}) == Float::f16);
  REQUIRE(output_of({.type = kU4B8, .group_size = {}, .scale_dtype = DType::BF16}) == Float::bf16);
  REQUIRE(output_of(mxfp4) == Float::bf16);
  const Scheme nvfp4{.type = kE2M1,
                     .group_size = GroupSize{16},
                     .scale_dtype = DType::F8_E4M3,
                     .global_scale = GlobalScale::multiplies};
  REQUIRE(output_of(nvfp4) == Float::f16);
  REQUIRE(output_of({}, "marlin-a8") == Float::f16);
  REQUIRE(output_of({.type = kU4B8, .group_size = {}, .scale_dtype = DType::BF16, .activations = DType::I8},
                    "marlin-a8") == Float::bf16);
  REQUIRE(output_of(mxfp4, "marlin-a8") == Float::bf16);
}

TEST_CASE("what no kernel multiplies with is none", "[verify]") {
  const Scheme scheme = GENERATE(values<Scheme>({
      {.type = kU8, .group_size = {}, .zero_points = ZeroPoints::integer},
      {.type = kU8, .group_size = {}, .zero_points = ZeroPoints::floating},
      {.type = kE4M3, .group_size = GroupSize{32}, .scale_dtype = DType::F8_E8M0},
      {.type = kE4M3, .group_size = {}, .scale_dtype = DType::F16, .scales_divide = true},
      {.type = kU4B8, .group_size = {}, .scale_dtype = DType::F32},
      {.type = kE2M1,
       .group_size = GroupSize{16},
       .scale_dtype = DType::F8_E4M3,
       .global_scale = GlobalScale::divides},
  }));
  CAPTURE(to_string(scheme));
  REQUIRE_FALSE(has_kernel(scheme, DType::F16));
}

TEST_CASE("not all weights have kernels for 8-bit activations", "[verify][a8]") {
  const Scheme u8b128{.type = kU8B128, .group_size = {}}, fp8{.type = kE4M3, .group_size = {}};
  REQUIRE(has_kernel(u8b128, DType::F16));
  REQUIRE(has_kernel(u8b128, DType::I8));
  REQUIRE_FALSE(has_kernel(u8b128, DType::F8_E4M3));
  REQUIRE(has_kernel(fp8, DType::F16));
  REQUIRE_FALSE(has_kernel(fp8, DType::F8_E4M3));
  const Scheme mxfp4{.type = kE2M1, .group_size = GroupSize{32}, .scale_dtype = DType::F8_E8M0};
  REQUIRE(has_kernel(mxfp4, DType::F8_E4M3));
  REQUIRE_FALSE(has_kernel(mxfp4, DType::I8));
}

TEST_CASE("one wrong weight, one stale output, a NaN: outside the bound", "[verify]") {
  const char* format = GENERATE("marlin", "marlin-a8");
  CAPTURE(format);
  Case c{{kU4B8, GroupSize{128}, DType::F16}, format};
  if (c.roundings().activations8) c.take_whole_activations();
  REQUIRE(c.check().passed());
  SECTION("a code off by eight in one output") {
    c.q.codes(100, 17) ^= 8;
    c.multiply();
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
    c.multiply();
  }
  REQUIRE_FALSE(c.check().passed());
}

TEST_CASE("activations are the same bits for the same seed, carry outliers and are finite", "[verify]") {
  const Float type = GENERATE(Float::f16, Float::bf16);
  const KernelActivations made = outlier_activations(M{64}, K{512}, 5, type);
  const std::vector<float>& a = made.values;
  REQUIRE(made.halves == outlier_activations(M{64}, K{512}, 5, type).halves);
  REQUIRE(made.halves != outlier_activations(M{64}, K{512}, 6, type).halves);
  float largest = 0;
  double energy = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float value = a[i];
    REQUIRE(value == to_float(made.halves[i], type));
    REQUIRE(std::isfinite(value));
    largest = std::max(largest, std::abs(value));
    energy += static_cast<double>(value) * value;
  }
  REQUIRE(largest > 20);  // 40 times the deviation in an outlier channel
  REQUIRE(energy / static_cast<double>(a.size()) > 0.25);
}

TEST_CASE("whole activations are whole, small, and both signs", "[verify][a8]") {
  const KernelActivations made = whole_fp8_activations(M{3}, K{256}, 7);
  REQUIRE(made.bytes.size() == 3 * 256);
  REQUIRE(made.row_scales.size() == 3);
  for (std::size_t i = 0; i < made.bytes.size(); ++i) {
    REQUIRE(e4m3_to_float(std::to_integer<std::uint8_t>(made.bytes[i])) == made.values[i]);
    REQUIRE(made.values[i] == std::nearbyint(made.values[i]));
  }
  const auto [least, most] = std::ranges::minmax(made.values);
  REQUIRE(least == -kExactFp8);
  REQUIRE(most == kExactFp8);
}

TEST_CASE("activations of 8 bits are the nearest ones there are", "[verify][a8]") {
  const auto [type, most] =
      GENERATE(table<Activation8, float>({{Activation8::int8, 127.0f}, {Activation8::e4m3, 448.0f}}));
  // All numbers of the type, by its definition.
  std::vector<float> numbers;
  if (type == Activation8::int8)
    for (int value = -127; value <= 127; ++value) numbers.push_back(static_cast<float>(value));
  else
    for (int exponent = -6; exponent <= 8; ++exponent)
      for (int mantissa = exponent == -6 ? 0 : 8; mantissa < (exponent == 8 ? 15 : 16); ++mantissa)
        for (const float sign : {-1.0f, 1.0f})
          numbers.push_back(sign * std::ldexp(static_cast<float>(mantissa), exponent - 3));
  const M m{5};
  const K k{300};
  const KernelActivations exact = outlier_activations(m, k, 5, Float::f16);
  const KernelActivations made = outlier_activations(m, k, 5, Float::f16, type);
  for (std::int64_t row = 0; row < m.value; ++row) {
    float largest = 0, reached = 0;
    for (std::int64_t i = row * k.value; i < (row + 1) * k.value; ++i) {
      const float value = exact.values[static_cast<std::size_t>(i)],
                  got = made.values[static_cast<std::size_t>(i)];
      const float wanted = value / made.row_scale(row);
      largest = std::max(largest, std::abs(value));
      reached = std::max(reached, std::abs(got));
      float nearest = std::abs(got - wanted);
      REQUIRE(std::ranges::find(numbers, got) != numbers.end());
      for (const float number : numbers) nearest = std::min(nearest, std::abs(number - wanted));
      REQUIRE(std::abs(got - wanted) == nearest);
      const std::byte bits = made.bytes[static_cast<std::size_t>(i)];
      REQUIRE(got == (type == Activation8::int8 ? static_cast<float>(static_cast<std::int8_t>(bits))
                                                : e4m3_to_float(std::to_integer<std::uint8_t>(bits))));
    }
    REQUIRE(reached == most);
    REQUIRE(made.row_scale(row) == largest / most);
  }
}
