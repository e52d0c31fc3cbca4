#include "verify/gemm_check.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/error_bound.hpp"
#include "verify/activations.hpp"

namespace mpk {
namespace {

template <class T>
std::vector<T> widen(std::span<const std::uint16_t> bits, Float type) {
  std::vector<T> values(bits.size());
  std::ranges::transform(bits, values.begin(),
                         [type](std::uint16_t h) { return static_cast<T>(to_float(h, type)); });
  return values;
}

GemmRoundings roundings_of(const Scheme& scheme, K k, N n) {
  const auto layer = kernel_layer(scheme, k, n);
  return layer ? mpk::roundings_of(*layer) : GemmRoundings{.output = activation_type(scheme)};
}

}  // namespace

Float activation_type(const Scheme& scheme) {
  if (scheme.activations) return *scheme.activations == DType::BF16 ? Float::bf16 : Float::f16;
  const bool mx = scheme.scale_dtype == DType::F8_E8M0;
  return mx || scheme.scale_dtype == DType::BF16 ? Float::bf16 : Float::f16;
}

std::optional<LayerShape> kernel_layer(const Scheme& scheme, K k, N n) {
  if (scheme.scales_divide) return std::nullopt;
  if (scheme.activations && *scheme.activations != DType::F16 && *scheme.activations != DType::BF16)
    return std::nullopt;
  const auto weight =
      weight_of(scheme.type, scheme.group_size ? static_cast<int>(scheme.group_size->value) : -1,
                scheme.zero_points == ZeroPoints::floating);
  if (!weight) return std::nullopt;
  const bool global = *weight == Weight::nvfp4;
  const ZeroPoints zeros = *weight == Weight::u4               ? ZeroPoints::integer
                           : *weight == Weight::u4_float_zeros ? ZeroPoints::floating
                                                               : ZeroPoints::implied;
  const DType scales = scheme.scale_dtype;
  const bool scales_fit = *weight == Weight::nvfp4   ? scales == DType::F8_E4M3
                          : *weight == Weight::mxfp4 ? scales == DType::F8_E8M0
                                                     : scales == DType::F16 || scales == DType::BF16;
  if (!scales_fit || scheme.zero_points != zeros ||
      scheme.global_scale != (global ? GlobalScale::multiplies : GlobalScale::none))
    return std::nullopt;
  return LayerShape{*weight, scheme.group_size, k, n, activation_type(scheme), scheme.act_order};
}

Reference reference_product(const MatrixF& weights, std::span<const std::uint16_t> activations, M m,
                            Float type) {
  const std::vector<double> a = widen<double>(activations, type);
  const std::int64_t k = weights.rows(), n = weights.cols();
  Reference reference{std::vector<double>(static_cast<std::size_t>(m.value * n)),
                      std::vector<double>(static_cast<std::size_t>(m.value * n))};
#pragma omp parallel for schedule(static)
  for (std::int64_t col = 0; col < n; ++col)
    for (std::int64_t row = 0; row < m.value; ++row) {
      const double* x = a.data() + row * k;
      const float* w = weights.data() + col * k;
      double product = 0, magnitude = 0;
      for (std::int64_t i = 0; i < k; ++i) {
        const double term = x[i] * static_cast<double>(w[i]);
        product += term;
        magnitude += std::abs(term);
      }
      reference.product[static_cast<std::size_t>(row * n + col)] = product;
      reference.magnitude[static_cast<std::size_t>(row * n + col)] = magnitude;
    }
  return reference;
}

GemmCheck check_product(std::span<const std::uint16_t> output, const Reference& reference,
                        std::span<const std::uint16_t> activations, const Scheme& scheme, K k, N n, M m) {
  const GemmRoundings roundings = roundings_of(scheme, k, n);
  const Float type = roundings.output;
  GemmCheck check{m, 0};
  for (std::int64_t row = 0; row < m.value; ++row) {
    double sum_abs = 0;
    for (std::int64_t i = 0; i < k.value; ++i)
      sum_abs += std::abs(
          static_cast<double>(to_float(activations[static_cast<std::size_t>(row * k.value + i)], type)));
    for (std::int64_t col = 0; col < n.value; ++col) {
      const auto at = static_cast<std::size_t>(row * n.value + col);
      const double bound =
          gemm_error_bound(roundings, k, reference.product[at], reference.magnitude[at], sum_abs);
      if (std::isinf(bound)) continue;  // beyond the type: infinity is a correct output
      const double ratio =
          std::abs(static_cast<double>(to_float(output[at], type)) - reference.product[at]) / bound;
      if (!(ratio <= check.worst))
        check.worst = std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio;
    }
  }
  return check;
}

std::vector<std::uint16_t> emulate_kernel(const QuantizedMatrix& q,
                                          std::span<const std::uint16_t> activations, M m) {
  const auto layer = kernel_layer(q.scheme, q.k(), q.n());
  const GemmRoundings roundings = roundings_of(q.scheme, q.k(), q.n());
  const Float type = roundings.output;
  const bool column_scales = layer && !layer->grouped(),
             global_scale = layer && layer->weight == Weight::nvfp4;
  const std::vector<float> a = widen<float>(activations, type);
  const std::int64_t k = q.k().value, n = q.n().value;
  MatrixF weights;
  if (column_scales || global_scale || roundings.differences) {
    QuantizedMatrix unscaled = q;
    if (column_scales || roundings.differences) unscaled.scales.setOnes();
    if (global_scale) unscaled.global_scale = 1;
    weights = dequantize(unscaled);
  } else {
    weights = dequantize(q);
  }
  const auto group_of = [&](std::int64_t row) {
    return q.scheme.act_order ? q.g_idx[static_cast<std::size_t>(row)] : row / q.scheme.rows_per_group(q.k());
  };
  std::vector<std::uint16_t> output(static_cast<std::size_t>(m.value * n));
#pragma omp parallel for schedule(static)
  for (std::int64_t col = 0; col < n; ++col) {
    float* w = weights.data() + col * k;
    if (roundings.differences)
      for (std::int64_t i = 0; i < k; ++i) {
        w[i] = to_float(to_bits(w[i], type), type);
        if (!column_scales) w[i] *= q.scales(group_of(i), col);
      }
    if (roundings.weights)
      for (std::int64_t i = 0; i < k; ++i) w[i] = to_float(to_bits(w[i], type), type);
    for (std::int64_t row = 0; row < m.value; ++row) {
      float sum = 0;
      for (std::int64_t i = 0; i < k; ++i) sum += a[static_cast<std::size_t>(row * k + i)] * w[i];
      if (column_scales) sum *= q.scales(0, col);
      if (global_scale) sum *= q.global_scale;
      output[static_cast<std::size_t>(row * n + col)] = to_bits(sum, type);
    }
  }
  return output;
}

}  // namespace mpk
