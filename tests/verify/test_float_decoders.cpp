// Formats with floating-point codes: both decoders, in every spelling of the scales.

#include "packer/format/error.hpp"
#include "tests/packer/float_cases.hpp"
#include "verify/fragment_decoder.hpp"

using namespace mpk;
using namespace mpk::test;

TEST_CASE("packer and element decoder read the same floats", "[verify]") {
  for (const FloatCase& c : float_cases()) {
    CAPTURE(c.format, c.k, c.n);
    const QuantizedMatrix matrix = float_matrix(c, seed());
    const std::vector<Part> parts = row_named(c.format).encode(matrix);
    REQUIRE(identical(decode_by_fragments(c.format, views_of(parts), c.scheme, K{c.k}, N{c.n}), matrix));
  }
}

TEST_CASE("the element decoder knows every shape of FP8 scales", "[verify]") {
  struct Spelled {
    Scheme scheme;
    Shape shape;
  };
  for (const Spelled& spelled : {Spelled{fp8_scheme(0, Scheme::kAllColumns), {}},
                                 {fp8_scheme(0, Scheme::kAllColumns), {1, 1}},
                                 {fp8_scheme(0, 1), {200}},
                                 {fp8_scheme(0, 1), {200, 1}},
                                 {fp8_scheme(128, 1), {200, 3}},
                                 {fp8_scheme(128, 128), {2, 1, 3, 1}}})
    for (const char* suffix : {"weight_scale", "weight_scale_inv"}) {
      const QuantizedMatrix matrix = random_matrix(spelled.scheme, K{300}, N{200}, seed());
      const std::vector<Part> parts =
          write_slabs(row_named("fp8"), matrix,
                      {{"weight", DType::F8_E4M3, {200, 300}}, {suffix, DType::F32, spelled.shape}});
      REQUIRE(identical(decode_by_fragments("fp8", views_of(parts), spelled.scheme, K{300}, N{200}), matrix));
    }
}

TEST_CASE("missing and short tensors are mismatches", "[verify]") {
  for (const FloatCase& c : float_cases()) {
    const std::vector<Part> good = row_named(c.format).encode(float_matrix(c, seed()));
    for (std::size_t i = 0; i < good.size(); ++i) {
      const auto decode = [&](const std::vector<Part>& parts) {
        decode_by_fragments(c.format, views_of(parts), c.scheme, K{c.k}, N{c.n});
      };
      std::vector<Part> missing = good, cut = good;
      missing.erase(missing.begin() + static_cast<std::ptrdiff_t>(i));
      cut[i].tensor.data.pop_back();
      CAPTURE(c.format, good[i].suffix);
      error_of(ErrorKind::mismatch, [&] { decode(missing); });
      error_of(ErrorKind::mismatch, [&] { decode(cut); });
    }
  }
}
