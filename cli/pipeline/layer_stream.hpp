#pragma once
// The calibration tokens' activations on their way through one decoder layer, group of linears by group.

#include <cstdint>
#include <span>
#include <vector>

#include "model/layer.hpp"

namespace mpk {

/// x (hidden, M) becomes layer(x), some windows at a time: for each group of linear_groups() in order,
/// input() for all windows; after the group o end_attention() for all windows, at last finish(). Between two
/// groups the caller may change the linears of the first.
class LayerStream {
 public:
  /// All must outlive this object. `length`: tokens per window.
  LayerStream(const DecoderConfig& config, const DecoderLayer& layer, std::int64_t length, MatrixRef x);

  /// What a group that reads all tokens reads in columns begin .. begin + count - 1 (whole windows); valid
  /// until the next call.
  const MatrixF& input(LinearGroup::Stage stage, Eigen::Index begin, Eigen::Index count);
  void end_attention(Eigen::Index begin, Eigen::Index count);
  void finish(Eigen::Index begin, Eigen::Index count);
  /// The same right after input(down) of these columns, for a layer whose linears do not change: nothing is
  /// computed twice. Not for layers with experts.
  void finish_at_once(Eigen::Index begin, Eigen::Index count);

  /// After end_attention(): where these tokens go.
  Routing route(Eigen::Index begin, Eigen::Index count);
  /// What an expert's group reads of the tokens in `columns` (ascending), whether they were routed to it or
  /// not; valid until the next call.
  const MatrixF& expert_input(const LinearGroup& group, std::span<const Eigen::Index> columns);

  /// The residual stream, (hidden, count): after input(o) and input(down), what their outputs are added to.
  ConstMatrixRef residual(Eigen::Index begin, Eigen::Index count) const {
    return x_.middleCols(begin, count);
  }

 private:
  LayerStages stages_;
  std::int64_t length_;
  MatrixRef x_;
  MatrixF heads_;  ///< (num_heads * head_dim, M): all windows' inputs of o
  MatrixF normed_, result_;
};

}  // namespace mpk
