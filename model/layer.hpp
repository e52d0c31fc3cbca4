#pragma once
// One decoder layer: its weights, and its forward pass cut where a group of linears reads a common input.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/config.hpp"
#include "model/linear.hpp"
#include "model/rope.hpp"

namespace mpk {

struct DecoderLayer {
  std::int64_t index = 0;
  Linear q, k, v, o, gate, up, down;
  Eigen::VectorXf input_norm, post_attention_norm;  ///< (hidden)
  Eigen::VectorXf q_norm, k_norm;                   ///< (head_dim), or empty

  /// The linears in the order in which the forward pass meets them.
  std::vector<Linear*> linears() { return {&q, &k, &v, &o, &gate, &up, &down}; }
};

/// Sees the input x (K, M) of the linears that share it (q, k, v together; gate and up together), before they
/// run.
using InputObserver = std::function<void(std::span<const Linear* const> linears, ConstMatrixRef x)>;

/// The layer in stages, for windows of `length` columns. The odd ones make the input of a group of linears
/// out of the state x (hidden, M), the even ones add what comes of it:
///
///     x -> attention_input -> [q k v] -> attention -> [o] -> add_attention -> x
///     x -> mlp_input    -> [gate up]  -> activation -> [down] -> add_mlp   -> x
///
/// A caller may change the linears in brackets before the stage that uses them runs, and may call a stage for
/// all its windows, some at a time, before the next.
class LayerStages {
 public:
  /// Both must outlive this object.
  LayerStages(const DecoderConfig& config, const DecoderLayer& layer, std::int64_t length);

  void attention_input(ConstMatrixRef x, MatrixF& out) const;   ///< input of q, k, v: (hidden, M)
  void attention(ConstMatrixRef input, MatrixF& out);           ///< input of o: (num_heads * head_dim, M)
  void add_attention(ConstMatrixRef heads, MatrixRef x) const;  ///< x += o(heads)
  void mlp_input(ConstMatrixRef x, MatrixF& out) const;         ///< input of gate, up: (hidden, M)
  void activation(ConstMatrixRef input, MatrixF& out);          ///< input of down: (intermediate, M)
  void add_mlp(ConstMatrixRef activated, MatrixRef x) const;    ///< x += down(activated)

 private:
  void position_heads(const Eigen::VectorXf& norm, MatrixF& heads) const;

  const DecoderConfig& config_;
  const DecoderLayer& layer_;
  std::int64_t length_;
  RopeTable rope_;
  MatrixF q_, k_, v_,
      up_;  ///< kept from call to call: fresh pages for each chunk cost as much as the elementwise work
};

/// All stages in order: x <- layer(x), in chunks of windows so that the temporaries stay small beside x.
/// `observe` may be empty; it is called once per chunk and group, in a fixed order.
void forward_layer(const DecoderConfig& config, const DecoderLayer& layer, std::int64_t length, MatrixRef x,
                   const InputObserver& observe);

/// How many windows of `length` go through a layer together. Does not depend on the machine.
std::int64_t windows_per_chunk(const DecoderConfig& config, std::int64_t length);

}  // namespace mpk
