#pragma once
// Which tokens run through which of a layer's routed experts.

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.hpp"
#include "model/linear.hpp"

namespace mpk {

/// The experts of every token, by falling probability (of equal ones the first), and what their outputs are
/// multiplied by. Depends on the token alone.
struct Routing {
  Eigen::Array<std::int32_t, Eigen::Dynamic, Eigen::Dynamic> experts;  ///< (per_token, M)
  MatrixF weights;                                                     ///< (per_token, M)
};

/// Scores from the router's outputs, then the largest. `bias`: (count), for ExpertsConfig::selection_bias;
/// `input`: what the experts would read, (hidden, M), in windows of `length`.
Routing route(const ExpertsConfig& config, const Linear& router, const Eigen::VectorXf& bias,
              std::int64_t length, ConstMatrixRef input);

/// Tokens of one expert: their columns in ascending order, and the weights of its outputs.
struct RoutedTokens {
  std::vector<Eigen::Index> columns;
  std::vector<float> weights;
};
RoutedTokens tokens_of(const Routing& routing, std::int64_t expert);

/// Columns of x side by side.
MatrixF gather(ConstMatrixRef x, std::span<const Eigen::Index> columns);

/// Where the windows of `length` tokens begin among gathered columns (ascending): the edges that apply()
/// takes.
std::vector<Eigen::Index> window_edges(std::span<const Eigen::Index> columns, std::int64_t length);

}  // namespace mpk
