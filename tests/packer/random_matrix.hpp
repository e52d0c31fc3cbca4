#pragma once
// Inputs, and what every test here says about an error.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>

#include "packer/format/error.hpp"
#include "packer/format/float_bits.hpp"
#include "packer/format/quantized_matrix.hpp"
#include "tests/support/catch.hpp"

namespace mpk::test {

inline Codes random_codes(K k, N n, ScalarType type, unsigned seed) {
  std::mt19937 random{seed};
  Codes codes(k.value, n.value);
  for (Eigen::Index i = 0; i < codes.size(); ++i)
    codes.data()[i] = static_cast<std::uint8_t>(random() >> (32 - type.bits));
  return codes;
}

/// Any finite pattern of the dtype: both signs, subnormals, zeros, the largest.
inline MatrixF random_scales(Groups groups, N n, DType dtype, unsigned seed) {
  std::mt19937 random{seed};
  MatrixF scales(groups.value, n.value);
  for (Eigen::Index i = 0; i < scales.size(); ++i) do {
      const std::uint32_t bits = random();
      scales.data()[i] = load_float(reinterpret_cast<const std::byte*>(&bits), dtype);
    } while (!std::isfinite(scales.data()[i]));
  return scales;
}

/// With zero points in lowest_zero .. lowest_zero + 2^bits - 1 and a scrambled g_idx of full groups, where
/// the scheme has them.
inline QuantizedMatrix random_matrix(const Scheme& scheme, K k, N n, unsigned seed, int lowest_zero = 0) {
  QuantizedMatrix q = make_matrix(scheme, k, n);
  q.codes = random_codes(k, n, scheme.type, seed);
  if (scheme.type == kE4M3)  // no NaN
    q.codes = q.codes.unaryExpr([](std::uint8_t c) { return (c & 0x7f) == 0x7f ? std::uint8_t(c ^ 1) : c; });
  const std::int64_t per =
      scheme.columns_per_scale == Scheme::kAllColumns ? n.value : scheme.columns_per_scale;
  const MatrixF scales =
      random_scales(scheme.groups(k), N{(n.value + per - 1) / per}, scheme.scale_dtype, seed + 1);
  for (Eigen::Index col = 0; col < n.value; ++col) q.scales.col(col) = scales.col(col / per);
  std::mt19937 random{seed + 2};
  for (Eigen::Index i = 0; i < q.zero_points.size(); ++i)
    q.zero_points.data()[i] =
        static_cast<std::int16_t>(lowest_zero + static_cast<int>(random() >> (32 - scheme.type.bits)));
  if (q.float_zeros.size() > 0)
    q.float_zeros = random_scales(scheme.groups(k), n, scheme.scale_dtype, seed + 3);
  for (std::size_t row = 0; row < q.g_idx.size(); ++row)
    q.g_idx[row] = static_cast<std::int32_t>(static_cast<std::int64_t>(row) / scheme.rows_per_group(k));
  std::ranges::shuffle(q.g_idx, random);
  if (scheme.global_scale != GlobalScale::none) q.global_scale = 0.0123f;
  return q;
}

/// Bits, so that -0 is not 0.
inline bool identical(const QuantizedMatrix& a, const QuantizedMatrix& b) {
  const auto bits = [](const MatrixF& m) {
    return std::string{reinterpret_cast<const char*>(m.data()), static_cast<std::size_t>(m.size()) * 4};
  };
  return a.scheme == b.scheme && a.codes.rows() == b.codes.rows() && a.codes.cols() == b.codes.cols() &&
         a.codes == b.codes && a.scales.rows() == b.scales.rows() && a.scales.cols() == b.scales.cols() &&
         bits(a.scales) == bits(b.scales) && a.zero_points == b.zero_points &&
         bits(a.float_zeros) == bits(b.float_zeros) && a.g_idx == b.g_idx && a.global_scale == b.global_scale;
}

/// Runs `f`, which must throw an Error of this kind, and returns its text.
template <class F>
std::string error_of(ErrorKind kind, F&& f) {
  try {
    f();
  } catch (const Error& error) {
    CHECK(error.kind() == kind);
    return error.what();
  }
  FAIL("nothing was thrown");
  return {};
}

inline bool mentions(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

}  // namespace mpk::test
