#include "model/linear_specs.hpp"

#include <fmt/format.h>

namespace mpk {

std::vector<LinearSpec> linear_specs(const DecoderConfig& config, std::int64_t layer) {
  const std::string attention = fmt::format("model.layers.{}.self_attn.", layer);
  const std::string mlp = fmt::format("model.layers.{}.mlp.", layer);
  const std::int64_t heads = config.num_heads * config.head_dim,
                     kv_heads = config.num_kv_heads * config.head_dim;
  return {
      {attention + "q_proj", K{config.hidden}, N{heads}, config.qkv_bias},
      {attention + "k_proj", K{config.hidden}, N{kv_heads}, config.qkv_bias},
      {attention + "v_proj", K{config.hidden}, N{kv_heads}, config.qkv_bias},
      {attention + "o_proj", K{heads}, N{config.hidden}, config.o_bias},
      {mlp + "gate_proj", K{config.hidden}, N{config.intermediate}, config.mlp_bias},
      {mlp + "up_proj", K{config.hidden}, N{config.intermediate}, config.mlp_bias},
      {mlp + "down_proj", K{config.intermediate}, N{config.hidden}, config.mlp_bias},
  };
}

std::string norm_tensor(std::int64_t layer, LayerNorm norm) {
  return fmt::format("model.layers.{}.{}.weight", layer,
                     norm == LayerNorm::input ? "input_layernorm" : "post_attention_layernorm");
}

}  // namespace mpk
