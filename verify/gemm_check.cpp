#include "verify/gemm_check.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "packer/weight_format.hpp"

namespace mpk {
namespace {

bool has_kernel(Activation8 activations, Weight weight) {
  switch (weight) {
    case Weight::u4b8:
    case Weight::u4:
      return true;
    case Weight::u8b128:
      return activations == Activation8::int8;
    case Weight::mxfp4:
      return activations == Activation8::e4m3;
    case Weight::u4_float_zeros:
    case Weight::e4m3:
    case Weight::nvfp4:
      return false;
  }
  return false;
}

std::optional<LayerShape> kernel_layer(const Scheme& scheme, Float type,
                                       std::optional<Activation8> activations8, K k, N n) {
  if (scheme.scales_divide) return std::nullopt;
  const auto weight =
      weight_of(scheme.type, scheme.group_size ? static_cast<int>(scheme.group_size->value) : -1,
                scheme.zero_points == ZeroPoints::floating);
  if (!weight || (activations8 && !has_kernel(*activations8, *weight))) return std::nullopt;
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
  return LayerShape{*weight, scheme.group_size, k, n, type, scheme.act_order, activations8};
}

/// Of the products first .. last of a row and a column.
template <class Sum>
float partial_sum(const float* a, const float* w, std::int64_t first, std::int64_t last) {
  Sum sum = 0;
  for (std::int64_t i = first; i < last; ++i) sum += static_cast<Sum>(a[i]) * static_cast<Sum>(w[i]);
  return static_cast<float>(sum);
}

}  // namespace

LayerArithmetic arithmetic_of(const Scheme& scheme, DType activations, K k, N n) {
  std::optional<Activation8> activations8;
  if (activations == DType::I8) activations8 = Activation8::int8;
  if (activations == DType::F8_E4M3) activations8 = Activation8::e4m3;
  // Activations of 8 bits say nothing about the outputs.
  const DType output = activations8 ? activations_of_16_bits(scheme) : activations;
  const Float type = output == DType::BF16 ? Float::bf16 : Float::f16;
  const auto kernel = kernel_layer(scheme, type, activations8, k, n);
  return {kernel,
          kernel ? roundings_of(*kernel) : GemmRoundings{.output = type, .activations8 = activations8}};
}

Reference reference_product(const MatrixF& weights, const KernelActivations& activations, M m) {
  const std::vector<double> a(activations.values.begin(), activations.values.end());
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
      const auto scale = static_cast<double>(activations.row_scale(row));
      reference.product[static_cast<std::size_t>(row * n + col)] = product * scale;
      reference.magnitude[static_cast<std::size_t>(row * n + col)] = magnitude * scale;
    }
  return reference;
}

GemmCheck check_product(std::span<const std::uint16_t> output, const Reference& reference,
                        const KernelActivations& activations, const GemmRoundings& roundings, K k, N n, M m) {
  GemmCheck check{m, 0};
  for (std::int64_t row = 0; row < m.value; ++row) {
    double sum_abs = 0;
    for (std::int64_t i = 0; i < k.value; ++i)
      sum_abs +=
          std::abs(static_cast<double>(activations.values[static_cast<std::size_t>(row * k.value + i)]));
    sum_abs *= static_cast<double>(activations.row_scale(row));
    for (std::int64_t col = 0; col < n.value; ++col) {
      const auto at = static_cast<std::size_t>(row * n.value + col);
      const double bound =
          gemm_error_bound(roundings, k, reference.product[at], reference.magnitude[at], sum_abs);
      if (std::isinf(bound)) continue;  // beyond the type: infinity is a correct output
      const double ratio =
          std::abs(static_cast<double>(to_float(output[at], roundings.output)) - reference.product[at]) /
          bound;
      if (!(ratio <= check.worst))
        check.worst = std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio;
    }
  }
  return check;
}

std::vector<std::uint16_t> emulate_kernel(const QuantizedMatrix& q, const LayerArithmetic& arithmetic,
                                          const KernelActivations& activations, M m) {
  const std::optional<LayerShape>& layer = arithmetic.kernel;
  const GemmRoundings& roundings = arithmetic.roundings;
  const Float type = roundings.output;
  const std::optional<Activation8> quantized = roundings.activations8;
  const bool grouped = !layer || layer->grouped(), global_scale = layer && layer->weight == Weight::nvfp4;
  const std::int64_t k = q.k().value, n = q.n().value;
  MatrixF weights;
  if (!grouped || global_scale || quantized || roundings.differences) {
    QuantizedMatrix unscaled = q;
    if (!grouped || quantized || roundings.differences) unscaled.scales.setOnes();
    if (global_scale) unscaled.global_scale = 1;
    weights = dequantize(unscaled);
  } else {
    weights = dequantize(q);
  }
  const auto group_of = [&](std::int64_t row) {
    return q.scheme.act_order ? q.g_idx[static_cast<std::size_t>(row)] : row / q.scheme.rows_per_group(q.k());
  };
  // Products that are summed before anything else happens to them.
  const std::int64_t chain = quantized && grouped             ? q.scheme.rows_per_group(q.k())
                             : quantized == Activation8::e4m3 ? kChain8
                                                              : k;
  const auto sum_of = quantized == Activation8::int8 ? partial_sum<double> : partial_sum<float>;
  std::vector<std::uint16_t> output(static_cast<std::size_t>(m.value * n));
#pragma omp parallel for schedule(static)
  for (std::int64_t col = 0; col < n; ++col) {
    float* w = weights.data() + col * k;
    if (roundings.differences)
      for (std::int64_t i = 0; i < k; ++i) {
        w[i] = to_float(to_bits(w[i], type), type);
        if (grouped) w[i] *= q.scales(group_of(i), col);
      }
    if (roundings.weights)
      for (std::int64_t i = 0; i < k; ++i) w[i] = to_float(to_bits(w[i], type), type);
    for (std::int64_t row = 0; row < m.value; ++row) {
      const float* a = activations.values.data() + row * k;
      float sum = 0;
      for (std::int64_t first = 0; first < k; first += chain) {
        const float part = sum_of(a, w, first, std::min(k, first + chain));
        sum = std::fma(part, quantized && grouped ? q.scales(first / chain, col) : 1.0f, sum);
      }
      if (!grouped) sum *= q.scales(0, col);
      if (global_scale) sum *= q.global_scale;
      sum *= activations.row_scale(row);
      output[static_cast<std::size_t>(row * n + col)] = to_bits(sum, type);
    }
  }
  return output;
}

}  // namespace mpk
