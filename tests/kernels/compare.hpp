#pragma once
// A product against the exact one and the bound.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <ostream>
#include <vector>

#include "kernels/error_bound.hpp"
#include "tests/kernels/layer.hpp"
#include "tests/support/catch.hpp"

namespace mpk::test {

struct Mismatch {
  std::int64_t row, column;
  double actual, expected, bound;
};
inline std::ostream& operator<<(std::ostream& out, const Mismatch& m) {
  return out << "(" << m.row << ", " << m.column << "): " << m.actual << " for " << m.expected << ", bound "
             << m.bound;
}

inline GemmRoundings roundings_of(const PackedLayer& layer) {
  double largest = 0;
  if (layer.shape.weight == Weight::u4_float_zeros)
    for (std::size_t i = 0; i < layer.scales.size(); i += 2) {
      std::uint16_t bits;
      std::memcpy(&bits, &layer.scales[i], 2);
      largest = std::max(largest, std::abs(static_cast<double>(from_bits(bits, layer.shape.activations))));
    }
  return mpk::roundings_of(layer.shape).with_scales_up_to(largest);
}

struct Comparison {
  std::optional<Mismatch> first;  ///< outside its bound
  double worst = 0;               ///< largest error / bound
};

/// Element i of (M, K), as the product takes it.
inline double activation(const PackedLayer& layer, const std::vector<std::uint16_t>& activations,
                         std::int64_t i) {
  return static_cast<double>(from_bits(activations[at(i)], layer.shape.activations));
}
inline double activation(const PackedLayer& layer, const QuantizedActivations& activations, std::int64_t i) {
  return value_of(*layer.shape.activations8, activations.values[at(i)]) *
         static_cast<double>(activations.scales[at(i / layer.shape.k.value)]);
}

inline GpuReference exact_product(const PackedLayer& layer, const std::vector<std::uint16_t>& activations,
                                  M m) {
  return gpu_reference(layer.weights, layer.shape.k, layer.shape.n, activations, m, layer.shape.activations);
}
inline GpuReference exact_product(const PackedLayer& layer, const QuantizedActivations& activations, M m) {
  return gpu_reference(layer.weights, layer.shape.k, layer.shape.n, activations.first(m, layer.shape.k), m,
                       *layer.shape.activations8);
}

/// `out` (M, N); `activations` and `exact`, without the bias, may have more rows.
template <class Activations>
Comparison compare(const PackedLayer& layer, const Activations& activations, M m,
                   const std::vector<std::uint16_t>& out, const GpuReference& exact, bool with_bias) {
  const std::int64_t k_size = layer.shape.k.value, n_size = layer.shape.n.value;
  const Float type = layer.shape.activations;
  const GemmRoundings roundings = roundings_of(layer);
  Comparison result;
  for (std::int64_t row = 0; row < m.value; ++row) {
    double sum_abs = 0;
    for (std::int64_t k = 0; k < k_size; ++k)
      sum_abs += std::abs(activation(layer, activations, row * k_size + k));
    for (std::int64_t column = 0; column < n_size; ++column) {
      const std::size_t i = at(row * n_size + column);
      const double bias = with_bias ? static_cast<double>(layer.bias_values[at(column)]) : 0.0;
      const double expected = exact.product[i] + bias;
      const double bound =
          gemm_error_bound(roundings, layer.shape.k, exact.product[i], exact.magnitude[i], sum_abs, bias);
      const double actual = static_cast<double>(from_bits(out[i], type)), error = std::abs(actual - expected);
      if (!(error <= bound) && !std::isinf(bound) && !result.first)  // NaN, too
        result.first = Mismatch{row, column, actual, expected, bound};
      result.worst = std::max(result.worst, error / bound);
    }
  }
  return result;
}

/// Sums that float32 holds exactly, rounded once.
inline std::vector<std::uint16_t> rounded(const PackedLayer& layer, M m, const GpuReference& exact) {
  const std::int64_t n_size = layer.shape.n.value;
  std::vector<std::uint16_t> out(at(m.value * n_size));
  for (std::int64_t i = 0; i < m.value * n_size; ++i)
    out[at(i)] = to_bits(static_cast<float>(exact.product[at(i)]) + layer.bias_values[at(i % n_size)],
                         layer.shape.activations);
  return out;
}
/// Outputs that are not the same number; -0 is 0.
inline std::int64_t differences(const std::vector<std::uint16_t>& a, const std::vector<std::uint16_t>& b) {
  std::int64_t wrong = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i)
    wrong += a[i] != b[i] && ((a[i] | b[i]) & 0x7fff) != 0;
  return wrong;
}

/// The families of kernels that the current GPU runs.
inline std::vector<GemmFamily> families() {
  if (gpu_status().capability == 90) return {GemmFamily::mma_sync, GemmFamily::hopper};
  return {GemmFamily::mma_sync};
}

/// The float64 reference against plain loops.
template <class Activations>
void check_reference(const PackedLayer& layer, const Activations& activations, M m) {
  const GpuReference reference = exact_product(layer, activations, m);
  const std::int64_t k_size = layer.shape.k.value, n_size = layer.shape.n.value;
  for (std::int64_t row = 0; row < m.value; ++row)
    for (std::int64_t column = 0; column < n_size; ++column) {
      double product = 0, magnitude = 0;
      for (std::int64_t k = 0; k < k_size; ++k) {
        const double term =
            activation(layer, activations, row * k_size + k) * static_cast<double>(layer.weight(k, column));
        product += term;
        magnitude += std::abs(term);
      }
      // Fused multiply-adds may differ in the last bits.
      const std::size_t i = at(row * n_size + column);
      REQUIRE(std::abs(reference.product[i] - product) <= 1e-13 * magnitude);
      REQUIRE(std::abs(reference.magnitude[i] - magnitude) <= 1e-13 * magnitude);
    }
}

/// As GpuLinear takes them.
inline const std::vector<std::uint16_t>& rows_of(const std::vector<std::uint16_t>& activations) {
  return activations;
}
inline QuantizedRows rows_of(const QuantizedActivations& activations) {
  return activations.rows();
}
/// Of layers and activations of Numbers::exact: every family, to the bit.
template <class Activations>
void check_whole_numbers(const PackedLayer& layer, const Activations& activations, M m) {
  const auto expected = rounded(layer, m, exact_product(layer, activations, m));
  const GpuLinear linear{layer.shape, layer.tensors()};
  for (const GemmFamily family : families()) {
    CAPTURE(name_of(family));
    CHECK(differences(linear.multiply(rows_of(activations), m, family), expected) == 0);
  }
}

}  // namespace mpk::test
