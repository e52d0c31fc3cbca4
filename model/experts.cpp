#include "model/experts.hpp"

#include "model/elementwise.hpp"

namespace mpk {
namespace {

using Eigen::Index;

/// x <- softmax(x)
void softmax(float* x, Index n) {
  const float top = largest(x, n);
  for (Index i = 0; i < n; ++i) x[i] = exponential(x[i] - top);
  const float scale = 1.0f / sum_in_lanes<float>(n, [x](Index i) { return x[i]; });
  for (Index i = 0; i < n; ++i) x[i] *= scale;
}

}  // namespace

Routing route(const ExpertsConfig& config, const Linear& router, std::int64_t length, ConstMatrixRef input) {
  MatrixF probabilities(config.count, input.cols());
  apply(router, length, input, probabilities);
  Routing routing;
  routing.experts.resize(config.per_token, input.cols());
  routing.weights.resize(config.per_token, input.cols());
#pragma omp parallel for schedule(static)
  for (Index token = 0; token < input.cols(); ++token) {
    auto column = probabilities.col(token);
    softmax(column.data(), column.size());
    float sum = 0;
    for (Index rank = 0; rank < config.per_token; ++rank) {
      Index best = 0;
      for (Index i = 1; i < column.size(); ++i)
        if (column(i) > column(best)) best = i;
      routing.experts(rank, token) = static_cast<std::int32_t>(best);
      routing.weights(rank, token) = column(best);
      sum += column(best);
      column(best) = -1.0f;
    }
    if (config.normalized) routing.weights.col(token) /= sum;
  }
  return routing;
}

RoutedTokens tokens_of(const Routing& routing, std::int64_t expert) {
  RoutedTokens tokens;
  for (Index token = 0; token < routing.experts.cols(); ++token)
    for (Index rank = 0; rank < routing.experts.rows(); ++rank)
      if (routing.experts(rank, token) == expert) {
        tokens.columns.push_back(token);
        tokens.weights.push_back(routing.weights(rank, token));
      }
  return tokens;
}

MatrixF gather(ConstMatrixRef x, std::span<const Index> columns) {
  MatrixF out(x.rows(), std::ssize(columns));
#pragma omp parallel for schedule(static)
  for (Index i = 0; i < out.cols(); ++i) out.col(i) = x.col(columns[static_cast<std::size_t>(i)]);
  return out;
}

std::vector<Index> window_edges(std::span<const Index> columns, std::int64_t length) {
  std::vector<Index> edges{0};
  for (std::size_t i = 1; i < columns.size(); ++i)
    if (columns[i] / length != columns[i - 1] / length) edges.push_back(static_cast<Index>(i));
  edges.push_back(std::ssize(columns));
  return edges;
}

}  // namespace mpk
