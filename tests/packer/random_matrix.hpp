#pragma once
// Inputs, and what every test here says about an error.

#include <cmath>
#include <cstdint>
#include <random>
#include <string>

#include "packer/format/error.hpp"
#include "packer/format/float16.hpp"
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

/// Any finite 16-bit pattern: both signs, subnormals, zeros, the largest.
inline MatrixF random_scales(Groups groups, N n, DType dtype, unsigned seed) {
  std::mt19937 random{seed};
  MatrixF scales(groups.value, n.value);
  for (Eigen::Index i = 0; i < scales.size(); ++i) do {
      const auto bits = static_cast<std::uint16_t>(random());
      scales.data()[i] = dtype == DType::F16 ? f16_to_float(bits) : bf16_to_float(bits);
    } while (!std::isfinite(scales.data()[i]));
  return scales;
}

inline QuantizedMatrix random_matrix(const Scheme& scheme, K k, N n, unsigned seed) {
  return {scheme, random_codes(k, n, scheme.type, seed),
          random_scales(scheme.groups(k), n, scheme.scale_dtype, seed + 1)};
}

/// Bits, so that -0 is not 0.
inline bool identical(const QuantizedMatrix& a, const QuantizedMatrix& b) {
  const auto bits = [](const MatrixF& m) {
    return std::string{reinterpret_cast<const char*>(m.data()), static_cast<std::size_t>(m.size()) * 4};
  };
  return a.scheme == b.scheme && a.codes.rows() == b.codes.rows() && a.codes.cols() == b.codes.cols() &&
         a.codes == b.codes && a.scales.rows() == b.scales.rows() && a.scales.cols() == b.scales.cols() &&
         bits(a.scales) == bits(b.scales);
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
