#pragma once
// One decoder layer: its weights, and its forward pass cut where a group of linears reads a common input.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/config.hpp"
#include "model/experts.hpp"
#include "model/linear.hpp"
#include "model/linear_specs.hpp"
#include "model/rope.hpp"

namespace mpk {

/// One of the routed experts.
struct Expert {
  Linear gate, up, down;
};

struct DecoderLayer {
  std::int64_t index = 0;
  /// With fused_qkv q has the outputs of all three, and k and v are empty; with fused_gate_up gate of both,
  /// and up is empty. With latent attention there is no k and v (linear_specs.hpp). In a layer with experts
  /// gate, up and down are the network beside them, or empty.
  Linear q_a, q, kv_a, kv_b, k, v, o, gate, up, down;
  Linear router;                ///< empty without experts
  Eigen::VectorXf router_bias;  ///< ExpertsConfig::selection_bias, (experts.count), or empty
  std::vector<Expert> experts;  ///< empty without
  // Norms, what they multiply by (DecoderConfig::norm_offset is in them). (hidden):
  Eigen::VectorXf input_norm;                              ///< of what q, k and v read
  Eigen::VectorXf post_attention_norm;                     ///< of what gate and up, or the experts, read
  Eigen::VectorXf attention_output_norm, mlp_output_norm;  ///< of what o and down make, or empty
  Eigen::VectorXf q_a_norm, kv_a_norm;  ///< of latent attention: (q_rank), (kv_rank), or empty
  Eigen::VectorXf q_norm, k_norm;       ///< (head_dim), or empty

  Linear& linear(LinearRole role, std::int64_t expert);
  /// The linears that linear_specs() names, in its order.
  std::vector<Linear*> linears();
};

/// Linears that read a common input.
struct LinearGroup {
  /// latent_q and latent_kv: q and kv_b of latent attention.
  enum class Stage { qkv, latent_q, latent_kv, o, gate_up, down };
  Stage stage;
  std::int64_t expert = -1;  ///< reads the tokens that are routed to it; -1: reads all tokens
  std::vector<Linear*> linears;
  bool adds_to_residual = false;  ///< the output is added to the residual stream as it is

  bool reads_all_tokens() const { return expert < 0; }
};

/// All linears of a layer, in the order of the forward pass.
std::vector<LinearGroup> linear_groups(const DecoderConfig& config, DecoderLayer& layer);

/// Sees the input x (K, M) of the linears of a group before they run; of an expert's linears that of the
/// tokens routed to it, if there are any.
using InputObserver = std::function<void(std::span<const Linear* const> linears, ConstMatrixRef x)>;

/// The layer in stages, for windows of `length` columns. The odd ones make the input of a group of linears
/// out of the state x (hidden, M), the even ones add what comes of it:
///
///     x -> attention_input -> [q k v] -> attention -> [o] -> add_attention -> x
///     x -> mlp_input    -> [gate up]  -> activation -> [down] -> add_mlp   -> x
///
/// With latent attention latent_q and latent_kv make the inputs of q and kv_b out of that of [q_a kv_a], and
/// attention does so again.
///
/// A caller may change the linears in brackets before the stage that uses them runs, and may call a stage for
/// all its windows, some at a time, before the next. In a layer with experts add_experts comes after
/// mlp_input and, if has_mlp(), add_mlp.
class LayerStages {
 public:
  /// Both must outlive this object.
  LayerStages(const DecoderConfig& config, const DecoderLayer& layer, std::int64_t length);

  void attention_input(ConstMatrixRef x, MatrixF& out) const;   ///< input of q, k, v: (hidden, M)
  void latent_q(ConstMatrixRef input, MatrixF& out) const;      ///< (latent->q_rank, M)
  void latent_kv(ConstMatrixRef input, MatrixF& out) const;     ///< (latent->kv_rank, M)
  void attention(ConstMatrixRef input, MatrixF& out);           ///< input of o: (num_heads * value_dim(), M)
  void add_attention(ConstMatrixRef heads, MatrixRef x) const;  ///< x += o(heads)
  void mlp_input(ConstMatrixRef x, MatrixF& out) const;         ///< input of gate, up: (hidden, M)
  void activation(ConstMatrixRef input, MatrixF& out);          ///< input of down: (intermediate, M)
  void add_mlp(ConstMatrixRef activated, MatrixRef x) const;    ///< x += down(activated)

  bool has_experts() const { return !layer_.experts.empty(); }
  bool has_mlp() const { return layer_.down.weight.size() > 0; }
  Routing route(ConstMatrixRef input) const;  ///< input: what mlp_input made
  /// Input of an expert's down, (experts.intermediate, m), for some tokens' `input` (hidden, m) with the
  /// edges of their windows.
  void expert_activation(std::int64_t expert, std::span<const Eigen::Index> edges, ConstMatrixRef input,
                         MatrixF& out);
  /// x += what the experts make of the tokens routed to them. `observe` may be empty.
  void add_experts(ConstMatrixRef input, MatrixRef x, const InputObserver& observe = {});

 private:
  void project(ConstMatrixRef input, MatrixRef q, MatrixRef k, MatrixRef v);
  void project_latent(ConstMatrixRef input, MatrixRef q, MatrixRef k, MatrixRef v) const;
  void compress_kv(ConstMatrixRef input, MatrixF& compressed, MatrixF& latent) const;
  void rotate_last(float* head, std::int64_t position) const;
  void position_heads(const Eigen::VectorXf& norm, MatrixRef heads) const;
  void add_output(const Linear& linear, const Eigen::VectorXf& norm, ConstMatrixRef input, MatrixRef x) const;
  void add_normed(MatrixF& out, const Eigen::VectorXf& norm, MatrixRef x) const;

  const DecoderConfig& config_;
  const DecoderLayer& layer_;
  std::int64_t length_;
  RopeTable rope_;
  MatrixF qkv_, gate_up_;  ///< kept from call to call: fresh pages for each chunk cost as much as the
                           ///< elementwise work
};

/// All stages in order: x <- layer(x), in chunks of windows so that the temporaries stay small beside x.
/// `observe` may be empty; it is called once per chunk and group, in a fixed order.
void forward_layer(const DecoderConfig& config, const DecoderLayer& layer, std::int64_t length, MatrixRef x,
                   const InputObserver& observe);

/// How many windows of `length` go through a layer together. Does not depend on the machine.
std::int64_t windows_per_chunk(const DecoderConfig& config, std::int64_t length);

}  // namespace mpk
