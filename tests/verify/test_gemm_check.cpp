#include "packer/format/float16.hpp"
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
    activations = outlier_activations(m, k, test::seed());
    output = emulate_kernel(q, activations, m);
    reference = reference_product(dequantize(q), activations, m);
  }
  GemmCheck check() const { return check_product(output, reference, activations, q.scheme, q.k(), q.n(), m); }
};

}  // namespace

TEST_CASE("the kernel's own roundings stay inside the bound", "[verify]") {
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const std::int64_t group = GENERATE(-1, 32, 128);
  const Case c{{type, group < 0 ? std::nullopt : std::optional{GroupSize{group}}, DType::F16}};
  CAPTURE(type.bits, group, c.check().worst);
  REQUIRE(c.check().passed());
  REQUIRE(c.check().worst > 0);
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

TEST_CASE("activations are the same bits for the same seed, carry outliers and fit float16", "[verify]") {
  const auto a = outlier_activations(M{64}, K{512}, 5);
  REQUIRE(a == outlier_activations(M{64}, K{512}, 5));
  REQUIRE(a != outlier_activations(M{64}, K{512}, 6));
  float largest = 0;
  double energy = 0;
  for (const std::uint16_t bits : a) {
    const float value = f16_to_float(bits);
    REQUIRE(std::isfinite(value));
    largest = std::max(largest, std::abs(value));
    energy += static_cast<double>(value) * value;
  }
  REQUIRE(largest > 20);  // 40 times the deviation in an outlier channel
  REQUIRE(energy / static_cast<double>(a.size()) > 0.25);
}
