#pragma once
// The calibration tokens' activations on their way through one decoder layer, group of linears by group.

#include <array>
#include <cstdint>
#include <vector>

#include "model/layer.hpp"

namespace mpk {

/// The groups of linears that read a common input, in the order of the forward pass.
enum class LinearGroup { qkv, o, gate_up, down };
inline constexpr std::array kLinearGroups{LinearGroup::qkv, LinearGroup::o, LinearGroup::gate_up,
                                          LinearGroup::down};

/// Whether the outputs are added to the residual stream as they are (a norm in between would make this
/// false).
constexpr bool adds_to_residual(LinearGroup group) {
  return group == LinearGroup::o || group == LinearGroup::down;
}

std::vector<Linear*> linears_of(DecoderLayer& layer, LinearGroup group);

/// x (hidden, M) becomes layer(x), some windows at a time: for each group in order, input() for all windows,
/// then finish() for all windows. Between two groups the caller may change the linears of the first.
class LayerStream {
 public:
  /// All must outlive this object. `length`: tokens per window.
  LayerStream(const DecoderConfig& config, const DecoderLayer& layer, std::int64_t length, MatrixRef x);

  /// What the group reads in columns begin .. begin + count - 1 (whole windows); valid until the next call.
  const MatrixF& input(LinearGroup group, Eigen::Index begin, Eigen::Index count);
  void finish(Eigen::Index begin, Eigen::Index count);
  /// The same right after input(down) of these columns, for a layer whose linears do not change: nothing is
  /// computed twice.
  void finish_at_once(Eigen::Index begin, Eigen::Index count);

  /// The residual stream, (hidden, count): after input(o) and input(down), what their outputs are added to.
  ConstMatrixRef residual(Eigen::Index begin, Eigen::Index count) const {
    return x_.middleCols(begin, count);
  }

 private:
  LayerStages stages_;
  MatrixRef x_;
  MatrixF heads_;  ///< (num_heads * head_dim, M): all windows' inputs of o
  MatrixF normed_, result_;
};

}  // namespace mpk
