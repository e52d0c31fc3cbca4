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
  std::string type = "default";  ///< default | linear | llama3
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  ///< llama3
  double original_max_position = 8192;                   ///< llama3
  friend bool operator==(const RopeConfig&, const RopeConfig&) = default;
};

struct DecoderConfig {
  std::string architecture;  ///< "LlamaForCausalLM", ...: a row of kFamilies
  std::int64_t hidden = 0, intermediate = 0, num_layers = 0, vocab = 0;
  std::int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  double norm_eps = 1e-5;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norm = false;                                     ///< RMS norm of every query and key head (Qwen3)
  bool tied_embeddings = false;                             ///< lm_head is embed_tokens
  std::vector<std::optional<std::int64_t>> sliding_window;  ///< per layer; nullopt: full attention
  RopeConfig rope;
};

/// Throws Error{unsupported} for an architecture, activation or RoPE variant that is not in the tables, and
/// Error{bad_input} for missing or contradictory values.
DecoderConfig parse_config(const nlohmann::json& config);

}  // namespace mpk
