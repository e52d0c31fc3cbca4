#pragma once
// A tiny model of each family.

#include <map>
#include <string>
#include <vector>

#include "tests/support/tiny_model.hpp"

namespace mpk::test {

/// What the rows of kFamilies need beyond the usual keys. Windows of 32 tokens are longer than what some
/// layers see, and than what longrope was trained for.
inline TinyModel family_model(const std::string& architecture) {
  using nlohmann::json;
  const json experts{{"num_experts_per_tok", 2}, {"moe_intermediate_size", 128}, {"decoder_sparse_step", 1}};
  const auto merged = [](json all, const json& more) {
    all.update(more);
    return all;
  };
  const std::map<std::string, json> keys{
      {"Phi3ForCausalLM",
       {{"sliding_window", 12},
        {"partial_rotary_factor", 0.25},
        {"max_position_embeddings", 64},
        {"original_max_position_embeddings", 16},
        {"rope_scaling",
         {{"type", "longrope"},
          {"short_factor", json(std::vector<double>(8, 1.0))},
          {"long_factor", json(std::vector<double>(8, 2.0))}}}}},
      {"Gemma2ForCausalLM", {{"sliding_window", 12}, {"query_pre_attn_scalar", 48}}},
      {"Gemma3ForCausalLM", {{"sliding_window", 12}, {"sliding_window_pattern", 2}}},
      {"Gemma3ForConditionalGeneration", {{"sliding_window", 12}, {"sliding_window_pattern", 2}}},
      {"MixtralForCausalLM", merged(experts, {{"num_local_experts", 4}})},
      {"DeepseekV2ForCausalLM", merged(experts, {{"n_routed_experts", 4},
                                                 {"n_shared_experts", 2},
                                                 {"first_k_dense_replace", 1},
                                                 {"kv_lora_rank", 128},
                                                 {"qk_rope_head_dim", 64},
                                                 {"qk_nope_head_dim", 64},
                                                 {"v_head_dim", 64}})},
      {"DeepseekV3ForCausalLM", merged(experts, {{"n_routed_experts", 6},
                                                 {"n_group", 3},
                                                 {"topk_group", 2},
                                                 {"n_shared_experts", 1},
                                                 {"first_k_dense_replace", 1},
                                                 {"q_lora_rank", 128},
                                                 {"kv_lora_rank", 128},
                                                 {"qk_rope_head_dim", 64},
                                                 {"qk_nope_head_dim", 64},
                                                 {"v_head_dim", 64}})},
      {"Qwen3MoeForCausalLM", merged(experts, {{"num_experts", 5}, {"mlp_only_layers", {0}}})}};
  TinyModel model{.architecture = architecture};
  if (const auto it = keys.find(architecture); it != keys.end()) model.config = it->second;
  if (model.config.contains("num_experts_per_tok")) model.unused_expert = 2;
  return model;
}

}  // namespace mpk::test
