#include "quantizer/awq.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quantizer/hessian.hpp"
#include "quantizer/linalg/parallel.hpp"

namespace mpk {
namespace {

using Eigen::Index;

constexpr int kSteps = 20;                // of alpha
constexpr float kLeast = 1e-4f;           // scale: a channel that says nothing must not vanish
constexpr float kSmallestWeight = 1e-5f;  // in units of the group's largest

/// Root mean square of each channel's inputs, up to a common factor; 0: no token ever used it.
Eigen::VectorXf magnitudes(const MatrixF& hessian, std::span<const Index> channel_of, Index channels) {
  Eigen::VectorXd energy = Eigen::VectorXd::Zero(channels), count = energy;
  for (Index k = 0; k < hessian.rows(); ++k) {
    energy(channel_of[static_cast<std::size_t>(k)]) += hessian(k, k);
    count(channel_of[static_cast<std::size_t>(k)]) += 1;
  }
  return (energy.array() / count.array().max(1)).sqrt().cast<float>();
}

/// Mean over all outputs of |weight| in units of its group's largest, by channel.
Eigen::VectorXf weight_means(std::span<const AwqLayer> layers, std::span<const Index> channel_of,
                             Index channels) {
  Eigen::VectorXd sum = Eigen::VectorXd::Zero(channels), count = sum;
  for (const AwqLayer& layer : layers) {
    const MatrixF& weight = *layer.weight;
    const Index rows = layer.scheme.rows_per_group(K{weight.rows()});
    for (Index begin = 0; begin < weight.rows(); begin += rows) {
      const auto group = weight.middleRows(begin, std::min(rows, weight.rows() - begin)).array().abs();
      const Eigen::Array<float, 1, Eigen::Dynamic> largest = group.colwise().maxCoeff().max(1e-30f);
      for (Index i = 0; i < group.rows(); ++i) {
        const Index channel = channel_of[static_cast<std::size_t>(begin + i)];
        sum(channel) += double{(group.row(i) / largest).mean()};
        count(channel) += 1;
      }
    }
  }
  return (sum.array() / count.array().max(1)).cast<float>().max(kSmallestWeight);
}

/// Brings sqrt(max * min) to 1. Channels that no token used keep the scale 1.
Eigen::VectorXf normalized(Eigen::ArrayXf scales, const Eigen::VectorXf& magnitude) {
  scales = scales.max(kLeast);
  float least = std::numeric_limits<float>::infinity(), most = 0;
  for (Index c = 0; c < scales.size(); ++c)
    if (magnitude(c) > 0) {
      least = std::min(least, scales(c));
      most = std::max(most, scales(c));
    }
  scales /= std::sqrt(most) * std::sqrt(least);
  return (magnitude.array() > 0).select(scales, 1.0f);
}

/// Output energy that rounding loses with these scales, one per input.
double lost(std::span<const AwqLayer> layers, const MatrixF& hessian, const Eigen::VectorXf& scales,
            QuantizerOptions options) {
  double sum = 0;
  for (const AwqLayer& layer : layers) {
    options.scheme = layer.scheme;
    const MatrixF scaled = scales.asDiagonal() * *layer.weight;
    const MatrixF rounded =
        scales.cwiseInverse().asDiagonal() * dequantize(rtn({scaled, nullptr}, options).matrix);
    sum += output_energy(rounded - *layer.weight, &hessian);
  }
  return sum;
}

}  // namespace

Eigen::VectorXf awq_scales(std::span<const AwqLayer> layers, const MatrixF& hessian,
                           std::span<const Index> channel_of, const QuantizerOptions& options) {
  const Index channels = 1 + *std::ranges::max_element(channel_of);
  Eigen::VectorXf best = Eigen::VectorXf::Ones(channels);
  const Eigen::VectorXf magnitude = magnitudes(hessian, channel_of, channels);
  if (magnitude.isZero(0)) return best;
  const Eigen::VectorXf mean_weight = weight_means(layers, channel_of, channels);
  QuantizerOptions trial = options;
  trial.ranges = Ranges::minmax;  // the full search for each candidate costs far more than it changes
  const auto per_input = [&](const Eigen::VectorXf& scales) {
    return Eigen::VectorXf::NullaryExpr(
               hessian.rows(), [&](Index k) { return scales(channel_of[static_cast<std::size_t>(k)]); })
        .eval();
  };
  double least = lost(layers, hessian, per_input(best), trial);
  for (const bool by_weight : {false, true})
    for (int step = by_weight ? 0 : 1; step < kSteps; ++step) {
      const float alpha = static_cast<float>(step) / kSteps;
      Eigen::ArrayXf raw = magnitude.array().pow(alpha);
      if (by_weight) raw /= mean_weight.array().pow(1 - alpha);
      const Eigen::VectorXf scales = normalized(raw, magnitude);
      const double loss = lost(layers, hessian, per_input(scales), trial);
      if (loss < least) {
        least = loss;
        best = scales;
      }
    }
  return best;
}

}  // namespace mpk
