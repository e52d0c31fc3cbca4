#pragma once
// The neutral form between all formats: integers, scales, and what they mean.
//
// Every matrix is column-major with shape (K, N) or (groups, N): one output's inputs are contiguous, which is
// the memory order of a checkpoint's row-major (N, K) weight. No .cu file includes this header.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <Eigen/Core>

#include "packer/format/scalar_type.hpp"
#include "packer/format/tensor.hpp"
#include "packer/format/units.hpp"

namespace mpk {

using MatrixF = Eigen::MatrixXf;
using MatrixD = Eigen::MatrixXd;
using Codes = Eigen::Matrix<std::uint8_t, Eigen::Dynamic, Eigen::Dynamic>;
using ZeroCodes = Eigen::Matrix<std::int16_t, Eigen::Dynamic, Eigen::Dynamic>;

/// Where the number comes from that is subtracted from a code.
enum class ZeroPoints : std::uint8_t {
  implied,   ///< the type's bias
  integer,   ///< stored per group, in the code's own space (0 .. 2^bits, GPTQ version 1 reaching the end)
  floating,  ///< stored per group as a float (HQQ)
};

/// One more factor for the whole matrix (NVFP4).
enum class GlobalScale : std::uint8_t { none, multiplies, divides };

/// How one linear layer is stored.
struct Scheme {
  ScalarType type = kU4B8;
  std::optional<GroupSize> group_size;  ///< nullopt: one scale per column
  DType scale_dtype = DType::F16;       ///< F16, BF16, F32, F8_E4M3 or F8_E8M0
  ZeroPoints zero_points = ZeroPoints::implied;
  bool act_order = false;  ///< rows belong to groups by g_idx, not by k / group_size
  GlobalScale global_scale = GlobalScale::none;
  /// Neighbouring columns that share a scale: 1; 128 in FP8 blocks; kAllColumns: one for the matrix.
  std::int64_t columns_per_scale = 1;
  static constexpr std::int64_t kAllColumns = 0;
  bool scales_divide = false;  ///< weight = value(code) / scale (GPTQModel's FP8); no scale is 0 then
  /// What the kernel multiplies with, where a layout depends on it (F16, BF16, F8_E4M3, I8); nullopt: the
  /// format's usual one.
  std::optional<DType> activations = {};

  /// The last group may be short.
  constexpr Groups groups(K k) const {
    return group_size ? Groups{(k.value + group_size->value - 1) / group_size->value} : Groups{1};
  }
  /// Rows per scale; K itself when there is one group.
  constexpr std::int64_t rows_per_group(K k) const { return group_size ? group_size->value : k.value; }
  friend constexpr bool operator==(const Scheme&, const Scheme&) = default;
};

/// -1 or the group size, as configuration files and manifests spell it, and back.
constexpr std::int64_t group_size_number(const Scheme& scheme) {
  return scheme.group_size ? scheme.group_size->value : -1;
}
constexpr std::optional<GroupSize> group_size_from_number(std::int64_t number) {
  return number == -1 ? std::nullopt : std::optional{GroupSize{number}};
}

/// "u4b8 group 128", with what else is out of the ordinary.
std::string to_string(const Scheme& scheme);

/// A layer, or some neighbouring columns of one. Scales and zeros stand once per group and column here,
/// whatever columns_per_scale says about their storage.
struct QuantizedMatrix {
  Scheme scheme;
  Codes codes;                 ///< (K, N), each < 2^bits
  MatrixF scales;              ///< (groups, N); every value is exactly representable in scheme.scale_dtype
  ZeroCodes zero_points = {};  ///< (groups, N) if scheme.zero_points is integer, else empty
  MatrixF float_zeros = {};    ///< (groups, N) if scheme.zero_points is floating, else empty
  std::vector<std::int32_t> g_idx = {};  ///< (K) row -> group if scheme.act_order, else empty
  float global_scale = 1;                ///< as stored: a factor or a divisor, as the scheme says
  std::int64_t first_column = 0;         ///< of the layer, for a matrix that is a part of one

  K k() const { return K{codes.rows()}; }
  N n() const { return N{codes.cols()}; }
};

/// An uninitialized matrix of this scheme, all parts allocated.
QuantizedMatrix make_matrix(const Scheme& scheme, K k, N n, std::int64_t first_column = 0);

/// Every number to the bit (-0 is not 0); schemes and first columns are not compared.
bool same_bits(const QuantizedMatrix& a, const QuantizedMatrix& b);

/// The weights as float32, (K, N): (value(code) - zero) * scale, one float product, which is exact for 4- and
/// 8-bit codes with 16- or 8-bit scales (one quotient if scales_divide); then one product or quotient with
/// the global scale.
MatrixF dequantize(const QuantizedMatrix& q);

}  // namespace mpk
