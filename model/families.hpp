#pragma once
// The decoders this project can run. They are one network with a few switches; a family is a row of the
// table.

#include <array>
#include <cstdint>
#include <optional>

namespace mpk {

/// Where a bias of a linear layer comes from.
enum class BiasRule { never, always, config_key };

/// Which layers attend to a sliding window only.
enum class WindowRule {
  none,         ///< full attention, whatever the config says
  all_layers,   ///< every layer, unless "sliding_window" is null
  layer_types,  ///< as "layer_types" says, else the layers from "max_window_layers" on if
                ///< "use_sliding_window"
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
};

// What is absent from a config means here what it means in transformers: all of these families have
// rms_norm_eps 1e-6, rope_theta 1e4, hidden_act silu, sliding_window 4096, max_window_layers 28 and untied
// embeddings by default.
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
};

}  // namespace mpk
