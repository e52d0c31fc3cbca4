#include "quantizer/checks.hpp"

#include <cmath>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "quantizer/linalg/parallel.hpp"

namespace mpk {
namespace {

void check_finite(ConstMatrixRef matrix, const char* what) {
  parallel_for(matrix.cols(), [&](Eigen::Index col) {
    if (matrix.col(col).allFinite()) return;
    Eigen::Index row = 0;
    while (std::isfinite(matrix(row, col))) ++row;
    throw Error(ErrorKind::bad_input, fmt::format("{} is {} at input {}, {} {}", what, matrix(row, col), row,
                                                  matrix.rows() == matrix.cols() ? "column" : "output", col));
  });
}

/// "; 32 does", or nothing to offer.
std::string working_group_size(K k) {
  for (const int size : {128, 64, 32})
    if (divides(GroupSize{size}, k)) return fmt::format("; {} does", size);
  return "; one scale per column always works";
}

}  // namespace

void check_scheme(const Scheme& scheme, K k) {
  const bool symmetric = scheme.type == kU4B8 || scheme.type == kU8B128;
  const bool asymmetric = scheme.type == kU4 || scheme.type == kU8;
  if (!symmetric && !asymmetric)
    throw Error(ErrorKind::unsupported,
                fmt::format("codes of {} bits with bias {}; only u4b8, u8b128, u4 and u8 can be quantized to",
                            scheme.type.bits, scheme.type.bias));
  if (scheme.zero_points != (asymmetric ? ZeroPoints::integer : ZeroPoints::implied))
    throw Error(ErrorKind::unsupported, fmt::format("{} codes {} zero points", name_of(scheme.type),
                                                    asymmetric ? "need integer" : "have no stored"));
  if (scheme.scale_dtype != DType::F16 && scheme.scale_dtype != DType::BF16)
    throw Error(ErrorKind::unsupported,
                fmt::format("{} scales; only F16 and BF16 are possible", info(scheme.scale_dtype).name));
  if (k.value < 1) throw Error(ErrorKind::bad_input, "a linear layer without inputs");
  if (!scheme.group_size) return;
  if (scheme.group_size->value < 1)
    throw Error(ErrorKind::unsupported,
                fmt::format("group_size {} is not positive", scheme.group_size->value));
  if (!divides(*scheme.group_size, k))
    throw Error(ErrorKind::unsupported,
                fmt::format("group_size {} does not divide K = {}{}", scheme.group_size->value, k.value,
                            working_group_size(k)));
}

void check_layer(const LinearLayer& layer, const Scheme& scheme) {
  check_scheme(scheme, K{layer.weight.rows()});
  check_finite(layer.weight, "the weight");
  if (!layer.hessian) return;
  const MatrixF& hessian = *layer.hessian;
  if (hessian.rows() != layer.weight.rows() || hessian.cols() != layer.weight.rows())
    throw Error(ErrorKind::bad_input, fmt::format("a Hessian of shape ({}, {}) for a layer of {} inputs",
                                                  hessian.rows(), hessian.cols(), layer.weight.rows()));
  check_finite(hessian, "the Hessian (a sum over calibration tokens)");
}

}  // namespace mpk
