#pragma once
// What the tests of the floating-point formats share: the schemes they hold, and matrices through slabs.

#include <cstring>
#include <string>
#include <vector>

#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"

namespace mpk::test {

struct FloatCase {
  const char* format;
  Scheme scheme;
  std::int64_t k, n;
};

/// group_size 0: one group.
inline Scheme fp8_scheme(std::int64_t group_size, std::int64_t columns, DType dtype = DType::F32) {
  Scheme scheme;
  scheme.type = kE4M3;
  if (group_size != 0) scheme.group_size = GroupSize{group_size};
  scheme.scale_dtype = dtype;
  scheme.columns_per_scale = columns;
  return scheme;
}
inline Scheme nvfp4_scheme(GlobalScale global) {
  Scheme scheme;
  scheme.type = kE2M1;
  scheme.group_size = GroupSize{16};
  scheme.scale_dtype = DType::F8_E4M3;
  scheme.global_scale = global;
  return scheme;
}
inline Scheme mx_scheme(ScalarType type) {
  return {type, GroupSize{32}, DType::F8_E8M0};
}
inline Scheme dividing(Scheme scheme) {
  scheme.scales_divide = true;
  return scheme;
}

inline const std::vector<FloatCase>& float_cases() {
  static const std::vector<FloatCase> cases{
      {"ct-float-quantized", fp8_scheme(0, Scheme::kAllColumns), 96, 160},
      {"ct-float-quantized", fp8_scheme(0, 1, DType::BF16), 257, 131},
      {"ct-float-quantized", fp8_scheme(0, 1, DType::F16), 1, 2},
      {"ct-float-quantized", fp8_scheme(128, 1), 300, 129},
      {"ct-float-quantized", fp8_scheme(128, 128, DType::BF16), 300, 260},
      {"ct-float-quantized", fp8_scheme(128, 128), 128, 128},
      {"ct-float-quantized", fp8_scheme(64, 32), 200, 200},
      {"fp8", fp8_scheme(128, 128), 384, 256},
      {"fp8", fp8_scheme(128, 128), 129, 300},
      {"fp8", fp8_scheme(128, 128, DType::BF16), 300, 1},
      {"fp8", fp8_scheme(128, 128), 100, 50},
      {"fp8", fp8_scheme(96, 1), 480, 33},
      {"fp8", fp8_scheme(0, Scheme::kAllColumns), 33, 257},
      {"fp8", fp8_scheme(0, 1), 33, 257},
      {"fp8", dividing(fp8_scheme(0, 1)), 70, 150},
      {"fp8", dividing(fp8_scheme(0, Scheme::kAllColumns)), 70, 150},
      {"fp8", dividing(fp8_scheme(128, 128)), 170, 150},
      {"ct-nvfp4-pack-quantized", nvfp4_scheme(GlobalScale::divides), 16, 1},
      {"ct-nvfp4-pack-quantized", nvfp4_scheme(GlobalScale::divides), 528, 259},
      {"modelopt-nvfp4", nvfp4_scheme(GlobalScale::multiplies), 48, 130},
      {"ct-mxfp4-pack-quantized", mx_scheme(kE2M1), 32, 1},
      {"ct-mxfp4-pack-quantized", mx_scheme(kE2M1), 544, 257},
      {"ct-mxfp8-quantized", mx_scheme(kE4M3), 320, 129},
      {"gpt-oss-mxfp4", mx_scheme(kE2M1), 96, 200},
  };
  return cases;
}

inline const WeightFormat& row_named(const char* name) {
  const WeightFormat* format = weight_format_named(name);
  REQUIRE(format);
  return *format;
}

/// A configuration that tells block sizes and the direction of the scales, as the rows' own files would have.
inline Claims claims_of(const FloatCase& c) {
  Claims claims;
  const std::string row = c.format;
  if (row == "fp8") claims.method = "fp8";
  if (c.scheme.group_size) claims.group_size = c.scheme.group_size->value;
  if (c.scheme.group_size && c.scheme.columns_per_scale > 0)
    claims.block_columns = c.scheme.columns_per_scale;
  claims.scales_are_inverse = c.scheme.scales_divide;
  return claims;
}

inline QuantizedMatrix float_matrix(const FloatCase& c, unsigned seed) {
  QuantizedMatrix q = random_matrix(c.scheme, K{c.k}, N{c.n}, seed);
  if (c.scheme.scales_divide)
    q.scales = q.scales.unaryExpr([](float scale) { return scale == 0 ? 1.0f : scale; });
  return q;
}

inline QuantizedMatrix columns_of(const QuantizedMatrix& q, std::int64_t first, std::int64_t count) {
  QuantizedMatrix slab = q;
  slab.codes = q.codes.middleCols(first, count);
  slab.scales = q.scales.middleCols(first, count);
  slab.first_column = first;
  return slab;
}

/// The tensors that `write` makes of `q` in slabs of 128 columns, for these specs.
inline std::vector<Part> write_slabs(const WeightFormat& format, const QuantizedMatrix& q,
                                     const std::vector<PartSpec>& specs) {
  std::vector<Part> parts = allocate(specs);
  const Geometry geometry{q.scheme, q.k(), q.n()};
  for (std::int64_t first = 0; first < q.n().value; first += kColumnUnit)
    format.write(columns_of(q, first, std::min(kColumnUnit, q.n().value - first)), geometry,
                 buffers_of(parts));
  return parts;
}

inline bool same_bytes(const std::vector<Part>& a, const std::vector<Part>& b) {
  return std::ranges::equal(a, b, [](const Part& x, const Part& y) {
    return x.suffix == y.suffix && x.tensor.data == y.tensor.data;
  });
}

inline std::vector<PartSpec> specs_of(const PartViews& parts) {
  std::vector<PartSpec> specs;
  for (const auto& [suffix, part] : parts) specs.push_back({suffix, part.dtype, part.shape});
  return specs;
}

}  // namespace mpk::test
