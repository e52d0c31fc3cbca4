// What a quantizer must not accept, and that it says why.

#include <limits>

#include "quantizer/checks.hpp"
#include "tests/quantizer/errors.hpp"
#include "tests/quantizer/layers.hpp"
#include "tests/support/catch.hpp"

namespace mpk {
namespace {

TEST_CASE("a group size that does not divide K is refused with one that does", "[refusals]") {
  Scheme scheme{kU4B8, GroupSize{128}};
  test::require_error(test::error_of([&] { check_scheme(scheme, K{4000}); }), ErrorKind::unsupported,
                      "group_size 128 does not divide K = 4000; 32 does");
  test::require_error(test::error_of([&] { check_scheme(scheme, K{4160}); }), ErrorKind::unsupported,
                      "; 64 does");
  test::require_error(test::error_of([&] { check_scheme(scheme, K{33}); }), ErrorKind::unsupported,
                      "one scale per column");
  scheme.group_size = GroupSize{0};
  test::require_error(test::error_of([&] { check_scheme(scheme, K{64}); }), ErrorKind::unsupported,
                      "not positive");
  scheme.group_size = std::nullopt;
  REQUIRE_FALSE(test::error_of([&] { check_scheme(scheme, K{33}); }));
}

TEST_CASE("unknown codes and scale types are refused", "[refusals]") {
  test::require_error(test::error_of([] {
                        check_scheme({ScalarType{3, 4}, {}, DType::F16}, K{64});
                      }),
                      ErrorKind::unsupported, "3 bits");
  test::require_error(test::error_of([] {
                        check_scheme({kU4B8, {}, DType::F32}, K{64});
                      }),
                      ErrorKind::unsupported, "F32");
  test::require_error(test::error_of([] {
                        check_scheme({kU4, {}, DType::F16}, K{64});
                      }),
                      ErrorKind::unsupported, "u4 codes need integer zero points");
  test::require_error(test::error_of([] {
                        check_scheme({kU4B8, {}, DType::F16, ZeroPoints::integer}, K{64});
                      }),
                      ErrorKind::unsupported, "no stored zero points");
}

TEST_CASE("every method refuses weights and Hessians that are not numbers, and says where", "[refusals]") {
  const auto& method = methods()[GENERATE(range(std::size_t{0}, methods().size()))];
  const float bad = GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  QuantizerOptions options;
  options.scheme.group_size = GroupSize{32};
  test::Layer layer = test::random_layer(64, 5, test::seed());
  REQUIRE_FALSE(test::error_of([&] { method.run(layer.view(), options); }));
  SECTION("weight") {
    layer.weight(17, 3) = bad;
    test::require_error(test::error_of([&] { method.run(layer.view(), options); }), ErrorKind::bad_input,
                        "at input 17, output 3");
  }
  SECTION("Hessian") {
    layer.hessian(9, 33) = bad;
    test::require_error(test::error_of([&] { method.run(layer.view(), options); }), ErrorKind::bad_input,
                        "Hessian");
  }
  SECTION("shape") {
    layer.hessian = MatrixF::Identity(32, 32);
    test::require_error(test::error_of([&] { method.run(layer.view(), options); }), ErrorKind::bad_input,
                        "(32, 32)");
  }
  SECTION("scheme") {
    options.scheme.group_size = GroupSize{48};
    test::require_error(test::error_of([&] { method.run(layer.view(), options); }), ErrorKind::unsupported,
                        "48");
  }
  SECTION("overflow") {
    layer.weight(40, 2) = 1e6f;
    test::require_error(test::error_of([&] { method.run(layer.view(), options); }), ErrorKind::unsupported,
                        "BF16");
    test::require_error(test::error_of([&] { method.run(layer.view(), options); }), ErrorKind::unsupported,
                        "in group 1 of output 2");
    options.scheme.scale_dtype = DType::BF16;
    REQUIRE_FALSE(test::error_of([&] { method.run(layer.view(), options); }));
  }
}

TEST_CASE("methods that need a Hessian say so, in the table and when run", "[refusals]") {
  const test::Layer layer = test::random_layer(64, 5, test::seed());
  for (const Method& method : methods()) {
    const auto error = test::error_of([&] { method.run({layer.weight, nullptr}, {}); });
    CAPTURE(method.name);
    REQUIRE(error.has_value() == method.minimizes_error);  // the search for AWQ's scales comes before `run`
    REQUIRE(method.needs_hessian == (method.minimizes_error || method.scales_inputs));
  }
}

TEST_CASE("an indefinite Hessian is refused in the end", "[refusals]") {
  test::Layer layer = test::random_layer(64, 5, test::seed());
  layer.hessian.setConstant(5.0f);
  layer.hessian.diagonal().setOnes();
  test::require_error(test::error_of([&] { gptq(layer.view(), {}); }), ErrorKind::bad_input,
                      "not positive definite");
}

}  // namespace
}  // namespace mpk
