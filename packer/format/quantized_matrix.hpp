#pragma once
// What the quantizer hands to the packer and the verifier: integers, scales, and what they mean.
//
// Every matrix is column-major with shape (K, N) or (groups, N): one output's inputs are contiguous, which is
// the memory order of a checkpoint's row-major (N, K) weight. No .cu file includes this header.

#include <cstdint>
#include <optional>

#include <Eigen/Core>

#include "packer/format/scalar_type.hpp"
#include "packer/format/tensor.hpp"
#include "packer/format/units.hpp"

namespace mpk {

using MatrixF = Eigen::MatrixXf;
using MatrixD = Eigen::MatrixXd;
using Codes = Eigen::Matrix<std::uint8_t, Eigen::Dynamic, Eigen::Dynamic>;

/// How one linear layer is stored.
struct Scheme {
  ScalarType type = kU4B8;
  std::optional<GroupSize> group_size;  ///< nullopt: one scale per column
  DType scale_dtype = DType::F16;       ///< F16 or BF16

  constexpr Groups groups(K k) const { return group_size ? k / *group_size : Groups{1}; }
  /// Rows per scale; K itself when there is one group.
  constexpr std::int64_t rows_per_group(K k) const { return group_size ? group_size->value : k.value; }
  friend constexpr bool operator==(const Scheme&, const Scheme&) = default;
};

struct QuantizedMatrix {
  Scheme scheme;
  Codes codes;     ///< (K, N), each < 2^bits
  MatrixF scales;  ///< (groups, N); every value is exactly representable in scheme.scale_dtype

  K k() const { return K{codes.rows()}; }
  N n() const { return N{codes.cols()}; }
};

/// (code - bias) * scale, (K, N). One float product per weight, exact for 4- and 8-bit codes with 16-bit scales.
MatrixF dequantize(const QuantizedMatrix& q);

}  // namespace mpk
