#pragma once
// config.json of a Hugging Face decoder, reduced to what the forward pass needs.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace mpk {

/// Rotary position embedding: angle(position, i) = position * inv_freq[i], after the scaling variant named by
/// `type`.
struct RopeConfig {
  double theta = 10000.0;
  std::string type = "default";  ///< default | linear | llama3 | longrope | yarn
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  ///< llama3
  double original_max_position = 8192;                   ///< llama3, longrope, yarn
  /// longrope: each frequency is divided by its own factor, the long one if a window is longer than
  /// original_max_position. (rotary_dim / 2) each.
  std::vector<double> short_factor = {}, long_factor = {};
  double attention_factor = 1.0;         ///< longrope, yarn: multiplies cos and sin
  double beta_fast = 32, beta_slow = 1;  ///< yarn: turns in the original context between which it mixes
  bool truncate = true;                  ///< yarn: the mixed elements are whole ones
  friend bool operator==(const RopeConfig&, const RopeConfig&) = default;
};

/// f of f(gate) * up.
enum class Activation { silu, gelu_tanh };

/// Routed experts in place of a layer's feed-forward network: each token runs through the few that a router
/// finds most probable, and their outputs are summed with the probabilities as weights.
struct ExpertsConfig {
  std::int64_t count = 0;         ///< 0: no layer has experts
  std::int64_t per_token = 0;     ///< 1 .. count
  std::int64_t intermediate = 0;  ///< of one expert
  bool normalized = false;        ///< the weights of a token's experts are scaled to the sum 1
  double scale = 1;               ///< of the weights, after that
  bool sigmoid = false;           ///< the router's outputs become scores by a sigmoid each, not by a softmax
  bool selection_bias = false;    ///< is added to the scores to choose the experts, not to weigh them
  /// Experts come in so many groups of equal size; a token is sent to the best ones only, by the sum of a
  /// group's best `scores_per_group` scores.
  std::int64_t groups = 1, groups_per_token = 1, scores_per_group = 1;
  /// Width of the feed-forward network beside the experts that all tokens run through; 0: there is none.
  std::int64_t shared_intermediate = 0;
  std::vector<bool> layers = {};  ///< which layers have them
  // How checkpoints name them: "model.layers.0.{block}.experts.0.{gate}".
  std::string block = "mlp", router = "gate", gate = "gate_proj", up = "up_proj", down = "down_proj";
};

/// Multi-head latent attention: keys and values of all heads are made from one short vector per token. The
/// last rope_dim elements of a head are rotated; those of the keys are the same in all heads.
struct LatentAttention {
  std::int64_t q_rank = 0;  ///< queries are made from such a vector, too; 0: from the layer's input
  std::int64_t kv_rank = 0;
  std::int64_t rope_dim = 0, value_dim = 0;
  bool interleaved = true;  ///< neighbours are rotated together
};

struct DecoderConfig {
  std::string architecture;  ///< "LlamaForCausalLM", ...: a row of kFamilies
  /// Before "layers.0." and "embed_tokens.weight", and the head, in checkpoints; see locate_tensors().
  std::string tensor_prefix = "model.", head = "lm_head";
  std::int64_t hidden = 0, intermediate = 0, num_layers = 0, vocab = 0;
  std::int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  double norm_eps = 1e-5;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norm = false;                                     ///< RMS norm of every query and key head (Qwen3)
  bool tied_embeddings = false;                             ///< lm_head is embed_tokens
  std::vector<std::optional<std::int64_t>> sliding_window;  ///< per layer; nullopt: full attention
  RopeConfig rope;

  bool fused_qkv = false;      ///< q, k and v are the outputs of one linear, side by side
  bool fused_gate_up = false;  ///< likewise gate and up
  Activation activation = Activation::silu;
  double norm_offset = 0;     ///< norms multiply by this + their weight (Gemma: 1)
  bool output_norms = false;  ///< norms of what o and down add to the residual stream (Gemma)
  double embedding_scale = 1;
  std::optional<double> attention_scale;    ///< of the scores; nullopt: 1 / sqrt(head_dim)
  std::optional<double> attention_softcap;  ///< c: a score s becomes c tanh(s / c)
  std::optional<double> logit_softcap;      ///< likewise the logits
  std::optional<std::int64_t> rotary_dim;   ///< the first elements of a head, which are rotated; nullopt: all
  std::optional<RopeConfig> sliding_rope;   ///< of layers with a sliding window; nullopt: rope
  std::optional<LatentAttention> latent;    ///< head_dim is that of queries and keys
  ExpertsConfig experts;

  bool has_experts(std::int64_t layer) const {
    return experts.count > 0 && experts.layers[static_cast<std::size_t>(layer)];
  }
  const RopeConfig& rope_of(std::int64_t layer) const {
    return sliding_rope && sliding_window[static_cast<std::size_t>(layer)] ? *sliding_rope : rope;
  }
  std::int64_t num_rotated() const { return latent ? latent->rope_dim : rotary_dim.value_or(head_dim); }
  std::int64_t value_dim() const { return latent ? latent->value_dim : head_dim; }

  /// Nothing beyond the members above `fused_qkv`, and no RoPE type but default, linear and llama3: what
  /// Llama, Mistral, Qwen2 and Qwen3 are. For forward passes that know no more.
  bool is_plain_dense() const;
};

/// Throws Error{unsupported} for an architecture, activation or RoPE variant that is not in the tables, and
/// Error{bad_input} for missing or contradictory values.
DecoderConfig parse_config(const nlohmann::json& config);

}  // namespace mpk
