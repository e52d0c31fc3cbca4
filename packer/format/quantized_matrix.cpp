#include "packer/format/quantized_matrix.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "packer/format/float8.hpp"

namespace mpk {
namespace {

/// value(code) for every code of a type, its bias taken off.
std::array<float, 256> values_of(ScalarType type) {
  std::array<float, 256> values{};
  for (int code = 0; code <= type.max_code(); ++code) {
    const auto byte = static_cast<std::uint8_t>(code);
    values[static_cast<std::size_t>(code)] = type.encoding == Encoding::e2m1 ? e2m1_to_float(byte)
                                             : type.encoding == Encoding::e4m3
                                                 ? e4m3_to_float(byte)
                                                 : static_cast<float>(code - type.bias);
  }
  return values;
}

float zero_of(const QuantizedMatrix& q, Eigen::Index group, Eigen::Index n) {
  switch (q.scheme.zero_points) {
    case ZeroPoints::implied:
      return 0;
    case ZeroPoints::integer:
      return q.zero_points(group, n);
    case ZeroPoints::floating:
      return q.float_zeros(group, n);
  }
  return 0;
}

}  // namespace

std::string to_string(const Scheme& scheme) {
  std::string text = name_of(scheme.type);
  text +=
      scheme.group_size ? " group " + std::to_string(scheme.group_size->value) : std::string{" per column"};
  if (scheme.columns_per_scale == Scheme::kAllColumns) text += ", one scale";
  if (scheme.columns_per_scale > 1) text += " x " + std::to_string(scheme.columns_per_scale) + " columns";
  text += std::string{", "} + info(scheme.scale_dtype).name + " scales";
  if (scheme.scales_divide) text += " that divide";
  if (scheme.zero_points == ZeroPoints::integer) text += ", zero points";
  if (scheme.zero_points == ZeroPoints::floating) text += ", float zeros";
  if (scheme.act_order) text += ", act_order";
  if (scheme.global_scale != GlobalScale::none) text += ", global scale";
  if (scheme.activations) text += std::string{", for "} + info(*scheme.activations).name + " activations";
  return text;
}

QuantizedMatrix make_matrix(const Scheme& scheme, K k, N n, std::int64_t first_column) {
  QuantizedMatrix q;
  q.scheme = scheme;
  q.codes.resize(k.value, n.value);
  q.scales.resize(scheme.groups(k).value, n.value);
  if (scheme.zero_points == ZeroPoints::integer) q.zero_points.resize(q.scales.rows(), n.value);
  if (scheme.zero_points == ZeroPoints::floating) q.float_zeros.resize(q.scales.rows(), n.value);
  if (scheme.act_order) q.g_idx.resize(static_cast<std::size_t>(k.value));
  q.first_column = first_column;
  return q;
}

bool same_bits(const QuantizedMatrix& a, const QuantizedMatrix& b) {
  const auto same = [](const auto& x, const auto& y) {
    return x.rows() == y.rows() && x.cols() == y.cols() &&
           (x.size() == 0 ||
            std::memcmp(x.data(), y.data(), static_cast<std::size_t>(x.size()) * sizeof(*x.data())) == 0);
  };
  return same(a.codes, b.codes) && same(a.scales, b.scales) && same(a.zero_points, b.zero_points) &&
         same(a.float_zeros, b.float_zeros) && a.g_idx == b.g_idx &&
         std::bit_cast<std::uint32_t>(a.global_scale) == std::bit_cast<std::uint32_t>(b.global_scale);
}

MatrixF dequantize(const QuantizedMatrix& q) {
  const std::array<float, 256> values = values_of(q.scheme.type);
  const std::int64_t rows = q.scheme.rows_per_group(q.k());
  const auto scaled = [divide = q.scheme.scales_divide](float value, float scale) {
    return divide ? value / scale : value * scale;
  };
  MatrixF weight(q.codes.rows(), q.codes.cols());
#pragma omp parallel for schedule(static)
  for (Eigen::Index n = 0; n < q.codes.cols(); ++n) {
    if (q.scheme.act_order) {
      for (Eigen::Index k = 0; k < q.codes.rows(); ++k) {
        const std::int32_t group = q.g_idx[static_cast<std::size_t>(k)];
        weight(k, n) = scaled(values[q.codes(k, n)] - zero_of(q, group, n), q.scales(group, n));
      }
    } else {
      for (Eigen::Index group = 0; group < q.scales.rows(); ++group) {
        const float scale = q.scales(group, n), zero = zero_of(q, group, n);
        const Eigen::Index end = std::min<Eigen::Index>((group + 1) * rows, q.codes.rows());
        for (Eigen::Index k = group * rows; k < end; ++k)
          weight(k, n) = scaled(values[q.codes(k, n)] - zero, scale);
      }
    }
    if (q.scheme.global_scale == GlobalScale::multiplies) weight.col(n) *= q.global_scale;
    if (q.scheme.global_scale == GlobalScale::divides) weight.col(n) /= q.global_scale;
  }
  return weight;
}

}  // namespace mpk
