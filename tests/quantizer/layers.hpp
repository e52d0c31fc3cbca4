#pragma once
// Layers as they occur, made from a seed, and what tests measure on them, in double and by the definition.

#include <cmath>
#include <omp.h>
#include <random>

#include "quantizer/methods.hpp"

namespace mpk::test {

inline constexpr double kUnitRoundoff = 0x1p-24;  // of float32

struct Layer {
  MatrixF weight;   // (K, N)
  MatrixF hessian;  // (K, K)
  LinearLayer view() const { return {weight, &hessian}; }
};

inline MatrixF random_matrix(Eigen::Index rows, Eigen::Index cols, unsigned seed) {
  std::mt19937 random{seed};
  std::normal_distribution<float> normal;
  MatrixF matrix(rows, cols);
  for (Eigen::Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = normal(random);
  return matrix;
}

inline MatrixD gram(const MatrixF& x) {
  const MatrixD wide = x.cast<double>();
  return wide * wide.transpose();
}

/// Correlated inputs of which one in sixteen is twenty times larger, weights with a few outliers.
inline Layer random_layer(Eigen::Index k, Eigen::Index n, unsigned seed, Eigen::Index tokens = 0) {
  MatrixF x =
      random_matrix(k, k, seed) * random_matrix(k, tokens > 0 ? tokens : 2 * k, seed + 1) +
      3.0f * static_cast<float>(std::sqrt(k)) * random_matrix(k, tokens > 0 ? tokens : 2 * k, seed + 2);
  for (Eigen::Index row = 5; row < k; row += 16) x.row(row) *= 20.0f;
  MatrixF weight = 0.03f * random_matrix(k, n, seed + 3);
  for (Eigen::Index i = 3; i < weight.size(); i += 97) weight.data()[i] *= 6.0f;
  return {weight, gram(x).cast<float>()};
}

/// tr(W^T H W)
inline double energy(const MatrixF& weight, const MatrixF& hessian) {
  const MatrixD w = weight.cast<double>();
  return (w.array() * (hessian.cast<double>() * w).array()).sum();
}

inline double relative_loss(const QuantizedMatrix& q, const Layer& layer) {
  return energy(layer.weight - dequantize(q), layer.hessian) / energy(layer.weight, layer.hessian);
}

/// |a - b| within `tolerance` of the larger.
inline bool near(double a, double b, double tolerance) {
  return std::abs(a - b) <= tolerance * std::max(std::abs(a), std::abs(b));
}

/// Runs f with so many OpenMP threads.
template <class F>
auto with_threads(int threads, F&& f) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  auto result = f();
  omp_set_num_threads(before);
  return result;
}

inline bool same_bits(const QuantizedLinear& a, const QuantizedLinear& b) {
  return a.matrix.codes == b.matrix.codes && a.matrix.scales == b.matrix.scales &&
         a.relative_loss == b.relative_loss && a.damp == b.damp;
}

}  // namespace mpk::test
