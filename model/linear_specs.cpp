#include "model/linear_specs.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace mpk {
namespace {

void add_attention(const DecoderConfig& config, const std::string& prefix, std::vector<LinearSpec>& specs) {
  const std::int64_t heads = config.num_heads * config.head_dim,
                     kv_heads = config.num_kv_heads * config.head_dim;
  const K hidden{config.hidden};
  if (config.latent) {
    const LatentAttention& latent = *config.latent;
    if (latent.q_rank > 0) {
      specs.push_back({prefix + "q_a_proj", hidden, N{latent.q_rank}, config.qkv_bias, LinearRole::q_a});
      specs.push_back({prefix + "q_b_proj", K{latent.q_rank}, N{heads}, false, LinearRole::q});
    } else {
      specs.push_back({prefix + "q_proj", hidden, N{heads}, false, LinearRole::q});
    }
    specs.push_back({prefix + "kv_a_proj_with_mqa", hidden, N{latent.kv_rank + latent.rope_dim},
                     config.qkv_bias, LinearRole::kv_a});
    const std::int64_t key_and_value = config.head_dim - latent.rope_dim + latent.value_dim;
    specs.push_back({prefix + "kv_b_proj", K{latent.kv_rank}, N{config.num_heads * key_and_value}, false,
                     LinearRole::kv_b});
  } else if (config.fused_qkv) {
    specs.push_back({prefix + "qkv_proj", hidden, N{heads + 2 * kv_heads}, config.qkv_bias, LinearRole::q});
  } else {
    specs.push_back({prefix + "q_proj", hidden, N{heads}, config.qkv_bias, LinearRole::q});
    specs.push_back({prefix + "k_proj", hidden, N{kv_heads}, config.qkv_bias, LinearRole::k});
    specs.push_back({prefix + "v_proj", hidden, N{kv_heads}, config.qkv_bias, LinearRole::v});
  }
  specs.push_back({prefix + "o_proj", K{config.num_heads * config.value_dim()}, N{config.hidden},
                   config.o_bias, LinearRole::o});
}

void add_mlp(const DecoderConfig& config, const std::string& prefix, std::int64_t width,
             std::vector<LinearSpec>& specs) {
  const K hidden{config.hidden};
  if (config.fused_gate_up) {
    specs.push_back({prefix + "gate_up_proj", hidden, N{2 * width}, config.mlp_bias, LinearRole::gate});
  } else {
    specs.push_back({prefix + "gate_proj", hidden, N{width}, config.mlp_bias, LinearRole::gate});
    specs.push_back({prefix + "up_proj", hidden, N{width}, config.mlp_bias, LinearRole::up});
  }
  specs.push_back({prefix + "down_proj", K{width}, N{config.hidden}, config.mlp_bias, LinearRole::down});
}

void add_experts(const DecoderConfig& config, const std::string& layer, std::vector<LinearSpec>& specs) {
  const ExpertsConfig& experts = config.experts;
  const K hidden{config.hidden}, width{experts.intermediate};
  if (experts.shared_intermediate > 0)
    add_mlp(config, layer + experts.block + ".shared_experts.", experts.shared_intermediate, specs);
  for (std::int64_t i = 0; i < experts.count; ++i) {
    const std::string prefix = fmt::format("{}{}.experts.{}.", layer, experts.block, i);
    specs.push_back({prefix + experts.gate, hidden, N{width.value}, false, LinearRole::gate, i});
    specs.push_back({prefix + experts.up, hidden, N{width.value}, false, LinearRole::up, i});
    specs.push_back({prefix + experts.down, width, N{hidden.value}, false, LinearRole::down, i});
  }
}

}  // namespace

std::vector<LinearSpec> linear_specs(const DecoderConfig& config, std::int64_t layer) {
  const std::string prefix = fmt::format("{}layers.{}.", config.tensor_prefix, layer);
  std::vector<LinearSpec> specs;
  add_attention(config, prefix + "self_attn.", specs);
  if (config.has_experts(layer))
    add_experts(config, prefix, specs);
  else
    add_mlp(config, prefix + "mlp.", config.intermediate, specs);
  return specs;
}

std::vector<std::vector<LinearSpec>> input_groups(const DecoderConfig& config, std::int64_t layer) {
  // The first role that reads the same.
  const auto input_of = [&](LinearRole role) {
    const bool has_latent_q = config.latent && config.latent->q_rank > 0;
    switch (role) {
      case LinearRole::q:
        return has_latent_q ? LinearRole::q : LinearRole::q_a;
      case LinearRole::kv_a:
      case LinearRole::k:
      case LinearRole::v:
        return LinearRole::q_a;
      case LinearRole::up:
        return LinearRole::gate;
      default:
        return role;
    }
  };
  std::vector<std::vector<LinearSpec>> groups;
  for (LinearSpec& spec : linear_specs(config, layer)) {
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const auto& group) {
      return group.front().expert == spec.expert && input_of(group.front().role) == input_of(spec.role);
    });
    if (same == groups.end())
      groups.push_back({std::move(spec)});
    else
      same->push_back(std::move(spec));
  }
  return groups;
}

std::string norm_tensor(const DecoderConfig& config, std::int64_t layer, LayerNorm norm) {
  const auto name = [&] {
    switch (norm) {
      case LayerNorm::attention_input:
        return "input_layernorm";
      case LayerNorm::mlp_input:
        return config.output_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm";
      case LayerNorm::attention_output:
        return "post_attention_layernorm";
      case LayerNorm::mlp_output:
        return "post_feedforward_layernorm";
    }
    return "";
  };
  return fmt::format("{}layers.{}.{}.weight", config.tensor_prefix, layer, name());
}

std::string latent_norm_tensor(const DecoderConfig& config, std::int64_t layer, LinearRole role) {
  return fmt::format("{}layers.{}.self_attn.{}_layernorm.weight", config.tensor_prefix, layer,
                     role == LinearRole::q_a ? "q_a" : "kv_a");
}

void locate_tensors(DecoderConfig& config, const WeightSource& weights) {
  struct Names {
    const char *prefix, *head;
  };
  constexpr Names kKnown[] = {{"model.", "lm_head"},
                              {"language_model.model.", "language_model.lm_head"},
                              {"model.language_model.", "lm_head"}};
  for (const auto& [prefix, head] : kKnown)
    if (weights.contains(std::string{prefix} + "embed_tokens.weight")) {
      config.tensor_prefix = prefix;
      config.head = head;
      return;
    }
}

std::string router_module(const DecoderConfig& config, std::int64_t layer) {
  return fmt::format("{}layers.{}.{}.{}", config.tensor_prefix, layer, config.experts.block,
                     config.experts.router);
}

}  // namespace mpk
