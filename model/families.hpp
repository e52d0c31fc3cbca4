#pragma once
// The decoders this project can run. They are one network with a few switches; a family is a row of the
// table.

#include <array>
#include <cstdint>
#include <optional>

#include "model/config.hpp"

namespace mpk {

/// Where a bias of a linear layer comes from.
enum class BiasRule { never, always, config_key };

/// Which layers attend to a sliding window only.
enum class WindowRule {
  none,         ///< full attention, whatever the config says
  all_layers,   ///< every layer, unless "sliding_window" is null
  layer_types,  ///< as "layer_types" says, else the layers from "max_window_layers" on if
                ///< "use_sliding_window"
  switched,     ///< every layer if "use_sliding_window"
  pattern,      ///< as "layer_types" says, else all but each "sliding_window_pattern"-th layer
};

/// A family with routed experts. Their number is under "num_experts" or "num_local_experts", how many a token
/// runs through under "num_experts_per_tok".
struct ExpertsFamily {
  const char *block, *gate, *up, *down;  ///< names in checkpoints, as in ExpertsConfig
  const char* intermediate_key;
  std::optional<bool> normalized = {};  ///< nullopt: "norm_topk_prob" says
  bool has_sparse_step = false;         ///< "decoder_sparse_step" and "mlp_only_layers" name the layers
  /// DeepSeek: "n_routed_experts", "n_shared_experts", "n_group", "topk_group", "first_k_dense_replace" and
  /// "routed_scaling_factor".
  bool deepseek = false;
  bool sigmoid = false;  ///< with a bias for the choice, and groups rated by their best two scores
};

struct Family {
  const char* architecture;             ///< as "architectures" names it
  const char* model_type;               ///< stands in for a config without "architectures"
  BiasRule qkv_bias = BiasRule::never;  ///< key: attention_bias
  BiasRule o_bias = BiasRule::never;    ///< key: attention_bias
  BiasRule mlp_bias = BiasRule::never;  ///< key: mlp_bias
  bool qk_norm = false;
  WindowRule window = WindowRule::none;
  std::optional<std::int64_t> num_kv_heads =
      {};  ///< without "num_key_value_heads"; nullopt: num_attention_heads
  std::optional<std::int64_t> head_dim =
      {};  ///< without "head_dim"; nullopt: hidden_size / num_attention_heads
  std::optional<std::int64_t> num_heads = {};         ///< without "num_attention_heads"
  std::optional<std::int64_t> vocab = {};             ///< without "vocab_size"
  std::optional<std::int64_t> default_window = 4096;  ///< without "sliding_window"
  std::int64_t window_pattern = 0;                    ///< without "sliding_window_pattern"
  double norm_eps = 1e-6;                             ///< without "rms_norm_eps"
  double rope_theta = 1e4;                            ///< without "rope_theta"
  double sliding_rope_theta = 0;  ///< of layers with a window, without another; 0: as the others
  bool partial_rotary = false;    ///< "partial_rotary_factor" is heeded
  bool longrope = false;
  bool tied_embeddings = false;  ///< without "tie_word_embeddings"
  bool fused_qkv = false, fused_gate_up = false;
  const char* activation_key = "hidden_act";
  Activation activation = Activation::silu;  ///< without activation_key
  bool gemma = false;  ///< norms of 1 + weight around attention and MLP, embeddings times sqrt(hidden_size)
  std::optional<double> query_scalar = {};  ///< scores by "query_pre_attn_scalar"^-1/2, this without the key
  std::optional<double> attention_softcap = {};  ///< "attn_logit_softcapping" is heeded, this without the key
  bool logit_softcap_key = false;                ///< "final_logit_softcapping" is heeded
  std::optional<double> logit_softcap = {};      ///< without the key
  std::optional<ExpertsFamily> experts = {};
  bool latent = false;       ///< multi-head latent attention
  bool text_config = false;  ///< the decoder is a part of a larger model, and its keys are in "text_config"
};

// What is absent from a config means here what it means in transformers.
inline constexpr Family kGemma3{.architecture = "Gemma3ForCausalLM",
                                .model_type = "gemma3_text",
                                .qkv_bias = BiasRule::config_key,
                                .o_bias = BiasRule::config_key,
                                .qk_norm = true,
                                .window = WindowRule::pattern,
                                .num_kv_heads = 4,
                                .head_dim = 256,
                                .num_heads = 8,
                                .vocab = 262208,
                                .window_pattern = 6,
                                .rope_theta = 1e6,
                                .sliding_rope_theta = 1e4,
                                .tied_embeddings = true,
                                .activation_key = "hidden_activation",
                                .activation = Activation::gelu_tanh,
                                .gemma = true,
                                .query_scalar = 256,
                                .logit_softcap_key = true};

constexpr Family as_part_of(Family family, const char* architecture, const char* model_type) {
  family.architecture = architecture;
  family.model_type = model_type;
  family.text_config = true;
  return family;
}

inline constexpr std::array kFamilies{
    Family{.architecture = "LlamaForCausalLM",
           .model_type = "llama",
           .qkv_bias = BiasRule::config_key,
           .o_bias = BiasRule::config_key,
           .mlp_bias = BiasRule::config_key},
    Family{.architecture = "MistralForCausalLM",
           .model_type = "mistral",
           .window = WindowRule::all_layers,
           .num_kv_heads = 8},
    Family{.architecture = "Qwen2ForCausalLM",
           .model_type = "qwen2",
           .qkv_bias = BiasRule::always,
           .window = WindowRule::layer_types,
           .num_kv_heads = 32},
    Family{.architecture = "Qwen3ForCausalLM",
           .model_type = "qwen3",
           .qkv_bias = BiasRule::config_key,
           .o_bias = BiasRule::config_key,
           .qk_norm = true,
           .window = WindowRule::layer_types,
           .num_kv_heads = 32,
           .head_dim = 128},
    Family{.architecture = "Phi3ForCausalLM",
           .model_type = "phi3",
           .window = WindowRule::all_layers,
           .default_window = {},
           .norm_eps = 1e-5,
           .partial_rotary = true,
           .longrope = true,
           .fused_qkv = true,
           .fused_gate_up = true},
    Family{.architecture = "Gemma2ForCausalLM",
           .model_type = "gemma2",
           .qkv_bias = BiasRule::config_key,
           .o_bias = BiasRule::config_key,
           .window = WindowRule::pattern,
           .num_kv_heads = 4,
           .head_dim = 256,
           .window_pattern = 2,
           .tied_embeddings = true,
           .activation_key = "hidden_activation",
           .activation = Activation::gelu_tanh,
           .gemma = true,
           .query_scalar = 256,
           .attention_softcap = 50,
           .logit_softcap_key = true,
           .logit_softcap = 30},
    kGemma3,
    as_part_of(kGemma3, "Gemma3ForConditionalGeneration", "gemma3"),
    Family{.architecture = "MixtralForCausalLM",
           .model_type = "mixtral",
           .window = WindowRule::all_layers,
           .num_kv_heads = 8,
           .default_window = {},
           .norm_eps = 1e-5,
           .rope_theta = 1e6,
           .experts = ExpertsFamily{.block = "block_sparse_moe",
                                    .gate = "w1",
                                    .up = "w3",
                                    .down = "w2",
                                    .intermediate_key = "intermediate_size",
                                    .normalized = true}},
    Family{.architecture = "Qwen3MoeForCausalLM",
           .model_type = "qwen3_moe",
           .qkv_bias = BiasRule::config_key,
           .o_bias = BiasRule::config_key,
           .qk_norm = true,
           .window = WindowRule::switched,
           .num_kv_heads = 4,
           .experts = ExpertsFamily{.block = "mlp",
                                    .gate = "gate_proj",
                                    .up = "up_proj",
                                    .down = "down_proj",
                                    .intermediate_key = "moe_intermediate_size",
                                    .has_sparse_step = true}},
    Family{.architecture = "DeepseekV2ForCausalLM",
           .model_type = "deepseek_v2",
           .qkv_bias = BiasRule::config_key,
           .o_bias = BiasRule::config_key,
           .mlp_bias = BiasRule::config_key,
           .experts = ExpertsFamily{.block = "mlp",
                                    .gate = "gate_proj",
                                    .up = "up_proj",
                                    .down = "down_proj",
                                    .intermediate_key = "moe_intermediate_size",
                                    .normalized = false,
                                    .deepseek = true},
           .latent = true},
    Family{.architecture = "DeepseekV3ForCausalLM",
           .model_type = "deepseek_v3",
           .qkv_bias = BiasRule::config_key,
           .o_bias = BiasRule::config_key,
           .experts = ExpertsFamily{.block = "mlp",
                                    .gate = "gate_proj",
                                    .up = "up_proj",
                                    .down = "down_proj",
                                    .intermediate_key = "moe_intermediate_size",
                                    .deepseek = true,
                                    .sigmoid = true},
           .latent = true},
};

}  // namespace mpk
