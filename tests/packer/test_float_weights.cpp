// Weights as plain floats: the bits of dequantize(), rounded once.

#include <limits>

#include "packer/float_weights.hpp"
#include "tests/packer/float_cases.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

std::vector<std::byte> rounded(const MatrixF& weight, DType dtype) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(weight.size()) * bytes_of(dtype));
  for (Eigen::Index i = 0; i < weight.size(); ++i)  // column-major (K, N) is row-major (N, K)
    store_rounded(weight.data()[i], dtype, bytes.data() + static_cast<std::size_t>(i) * bytes_of(dtype));
  return bytes;
}

std::vector<std::byte> written(const QuantizedMatrix& q, DType dtype) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(q.codes.size()) * bytes_of(dtype));
  for (std::int64_t first = 0; first < q.n().value; first += kColumnUnit) {
    QuantizedMatrix slab = columns_of(q, first, std::min(kColumnUnit, q.n().value - first));
    if (q.zero_points.size() > 0) slab.zero_points = q.zero_points.middleCols(first, slab.n().value);
    if (q.float_zeros.size() > 0) slab.float_zeros = q.float_zeros.middleCols(first, slab.n().value);
    write_float_weights(slab, dtype, q.n(), bytes);
  }
  return bytes;
}

}  // namespace

TEST_CASE("float weights are dequantize(), rounded once", "[float_weights]") {
  const DType dtype = GENERATE(DType::F32, DType::F16, DType::BF16);
  for (const FloatCase& c : float_cases()) {
    CAPTURE(c.format, c.k, c.n, info(dtype).name);
    const QuantizedMatrix q = float_matrix(c, seed());
    CHECK(written(q, dtype) == rounded(dequantize(q), dtype));
  }
  for (const bool act_order : {false, true})
    for (const ZeroPoints zeros : {ZeroPoints::implied, ZeroPoints::integer, ZeroPoints::floating})
      for (const int bits : {2, 3, 4, 8})
        for (const std::int64_t group_size : {0, 8, 32, 40, 128, 600}) {
          Scheme scheme{zeros == ZeroPoints::implied ? symmetric_integer(bits) : unsigned_integer(bits),
                        group_size == 0 ? std::nullopt : std::optional{GroupSize{group_size}}, DType::F16};
          scheme.zero_points = zeros;
          scheme.act_order = act_order;
          CAPTURE(to_string(scheme));
          const QuantizedMatrix q = random_matrix(scheme, K{1100}, N{130}, seed());
          CHECK(written(q, dtype) == rounded(dequantize(q), dtype));
        }
}

TEST_CASE("every code at every exponent of MX, over- and underflow included", "[float_weights]") {
  for (const ScalarType type : {kE2M1, kE4M3}) {
    QuantizedMatrix q = make_matrix(mx_scheme(type), K{256}, N{255});
    for (int n = 0; n < 255; ++n) {
      q.scales.col(n).setConstant(e8m0_to_float(static_cast<std::uint8_t>(n)));
      for (int k = 0; k < 256; ++k)
        q.codes(k, n) =
            static_cast<std::uint8_t>((k & 0x7f) == 0x7f && type == kE4M3 ? k ^ 1 : k & type.max_code());
    }
    const MatrixF weight = dequantize(q);
    for (int n = 0; n < 255; ++n)
      for (int k = 0; k < 256; ++k) {
        const double value = type == kE4M3 ? e4m3_to_float(q.codes(k, n)) : e2m1_to_float(q.codes(k, n));
        REQUIRE(weight(k, n) == static_cast<float>(std::ldexp(value, n - 127)));
      }
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16})
      CHECK(written(q, dtype) == rounded(weight, dtype));
  }
}

TEST_CASE("all floats round as the scalar functions do", "[float_weights]") {
  // code 2 of E2M1 is 1: the weights are the scales themselves
  QuantizedMatrix q = make_matrix({kE2M1, GroupSize{1}, DType::F32}, K{4096}, N{64});
  q.codes.setConstant(2);
  std::mt19937 random{seed()};
  for (Eigen::Index i = 0; i < q.scales.size(); ++i) {
    std::uint32_t bits = random();
    if (i % 4 == 0) bits &= 0xffffe000u;  // halfway cases and their neighbours
    if (i % 4 == 1)
      bits = (bits & 0x80ffffffu) | (random() % 2 ? 0x33000000u : 0x38000000u);  // F16's subnormals
    if (i % 4 == 2) bits = (bits & 0x8000ffffu) | 0x477f0000u;                   // around F16's largest
    q.scales.data()[i] = std::bit_cast<float>(bits);
    if (std::isnan(q.scales.data()[i])) q.scales.data()[i] = std::numeric_limits<float>::infinity();
  }
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16})
    CHECK(written(q, dtype) == rounded(dequantize(q), dtype));
}

TEST_CASE("the dtype of float weights", "[float_weights]") {
  CHECK(float_dtype_of(fp8_scheme(0, 1, DType::F32)) == DType::F32);
  CHECK(float_dtype_of({kU4B8, GroupSize{128}, DType::F16}) == DType::F16);
  CHECK(float_dtype_of(fp8_scheme(0, 1, DType::BF16), DType::F16) == DType::BF16);
  CHECK(float_dtype_of(nvfp4_scheme(GlobalScale::divides)) == DType::BF16);
  CHECK(float_dtype_of(mx_scheme(kE4M3), DType::F16) == DType::F16);

  const QuantizedMatrix q = random_matrix(fp8_scheme(0, 1), K{8}, N{8}, 1);
  std::vector<std::byte> bytes(8 * 8 * 2);
  error_of(ErrorKind::unsupported, [&] { write_float_weights(q, DType::F64, N{8}, bytes); });
  CHECK(mentions(error_of(ErrorKind::bad_input, [&] { write_float_weights(q, DType::F32, N{8}, bytes); }),
                 "128 bytes"));
  CHECK(mentions(error_of(ErrorKind::bad_input,
                          [&] { write_float_weights(columns_of(q, 4, 4), DType::F16, N{7}, bytes); }),
                 "columns 4 to 8"));
}
