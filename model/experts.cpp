#include "model/experts.hpp"

#include <limits>

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

void scores_from(const ExpertsConfig& config, float* x, Index n) {
  if (!config.sigmoid) return softmax(x, n);
  for (Index i = 0; i < n; ++i) x[i] = 1.0f / (1.0f + exponential(-x[i]));
}

constexpr float kOut = -std::numeric_limits<float>::infinity();

Index largest_index(Eigen::Ref<const Eigen::VectorXf> x) {
  Index best = 0;
  for (Index i = 1; i < x.size(); ++i)
    if (x(i) > x(best)) best = i;
  return best;
}

/// Sum of the largest entries of x.
float sum_of_best(Eigen::VectorXf x, std::int64_t count) {
  float sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const Index best = largest_index(x);
    sum += x(best);
    x(best) = kOut;
  }
  return sum;
}

/// The scores of groups that a token is not sent to become -infinity.
void leave_best_groups(const ExpertsConfig& config, Eigen::VectorXf& scores) {
  if (config.groups_per_token == config.groups) return;
  const Index size = scores.size() / config.groups;
  Eigen::VectorXf rating(config.groups);
  for (Index group = 0; group < config.groups; ++group)
    rating(group) = sum_of_best(scores.segment(group * size, size), config.scores_per_group);
  std::vector<bool> is_chosen(static_cast<std::size_t>(config.groups));
  for (std::int64_t i = 0; i < config.groups_per_token; ++i) {
    const Index best = largest_index(rating);
    is_chosen[static_cast<std::size_t>(best)] = true;
    rating(best) = kOut;
  }
  for (Index group = 0; group < config.groups; ++group)
    if (!is_chosen[static_cast<std::size_t>(group)]) scores.segment(group * size, size).setConstant(kOut);
}

}  // namespace

Routing route(const ExpertsConfig& config, const Linear& router, const Eigen::VectorXf& bias,
              std::int64_t length, ConstMatrixRef input) {
  MatrixF scores(config.count, input.cols());
  apply(router, length, input, scores);
  Routing routing;
  routing.experts.resize(config.per_token, input.cols());
  routing.weights.resize(config.per_token, input.cols());
#pragma omp parallel for schedule(static)
  for (Index token = 0; token < input.cols(); ++token) {
    scores_from(config, scores.col(token).data(), scores.rows());
    Eigen::VectorXf choice = scores.col(token);
    if (bias.size() > 0) choice += bias;
    leave_best_groups(config, choice);
    float sum = 0;
    for (Index rank = 0; rank < config.per_token; ++rank) {
      const Index best = largest_index(choice);
      routing.experts(rank, token) = static_cast<std::int32_t>(best);
      routing.weights(rank, token) = scores(best, token);
      sum += scores(best, token);
      choice(best) = kOut;
    }
    if (config.normalized) routing.weights.col(token) /= sum;
    if (config.scale != 1) routing.weights.col(token) *= static_cast<float>(config.scale);
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
