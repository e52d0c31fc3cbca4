#include "verify/gemm_check.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/error_bound.hpp"
#include "packer/format/float16.hpp"

namespace mpk {
namespace {

template <class T>
std::vector<T> widen(std::span<const std::uint16_t> halves) {
  std::vector<T> values(halves.size());
  std::ranges::transform(halves, values.begin(),
                         [](std::uint16_t h) { return static_cast<T>(f16_to_float(h)); });
  return values;
}

}  // namespace

Reference reference_product(const MatrixF& weights, std::span<const std::uint16_t> activations, M m) {
  const std::vector<double> a = widen<double>(activations);
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
  const bool grouped = scheme.groups(k).value > 1;
  GemmCheck check{m, 0};
  for (std::int64_t row = 0; row < m.value; ++row) {
    double sum_abs = 0;
    for (std::int64_t i = 0; i < k.value; ++i)
      sum_abs += std::abs(
          static_cast<double>(f16_to_float(activations[static_cast<std::size_t>(row * k.value + i)])));
    for (std::int64_t col = 0; col < n.value; ++col) {
      const auto at = static_cast<std::size_t>(row * n.value + col);
      const double bound =
          gemm_error_bound(k, grouped, reference.product[at], reference.magnitude[at], sum_abs);
      if (std::isinf(bound)) continue;  // beyond float16: infinity is a correct output
      const double ratio =
          std::abs(static_cast<double>(f16_to_float(output[at])) - reference.product[at]) / bound;
      if (!(ratio <= check.worst))
        check.worst = std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio;
    }
  }
  return check;
}

std::vector<std::uint16_t> emulate_kernel(const QuantizedMatrix& q,
                                          std::span<const std::uint16_t> activations, M m) {
  const bool grouped = q.scales.rows() > 1;
  const bool rounds = grouped && q.scheme.scale_dtype == DType::F16;
  const bool scales_last = !grouped && q.scheme.scale_dtype == DType::F16;
  const std::vector<float> a = widen<float>(activations);
  const std::int64_t k = q.k().value, n = q.n().value;
  MatrixF weights;
  if (scales_last) {
    QuantizedMatrix unscaled = q;
    unscaled.scales.setOnes();
    weights = dequantize(unscaled);
  } else {
    weights = dequantize(q);
  }
  std::vector<std::uint16_t> output(static_cast<std::size_t>(m.value * n));
#pragma omp parallel for schedule(static)
  for (std::int64_t col = 0; col < n; ++col) {
    float* w = weights.data() + col * k;
    if (rounds)
      for (std::int64_t i = 0; i < k; ++i) w[i] = f16_to_float(float_to_f16(w[i]));
    for (std::int64_t row = 0; row < m.value; ++row) {
      float sum = 0;
      for (std::int64_t i = 0; i < k; ++i) sum += a[static_cast<std::size_t>(row * k + i)] * w[i];
      output[static_cast<std::size_t>(row * n + col)] =
          float_to_f16(scales_last ? sum * q.scales(0, col) : sum);
    }
  }
  return output;
}

}  // namespace mpk
