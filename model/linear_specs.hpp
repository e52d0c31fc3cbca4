#pragma once
// The tensors of a decoder layer: names and shapes, stated once.

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.hpp"
#include "model/weight_source.hpp"
#include "packer/format/units.hpp"

namespace mpk {

/// What a linear does. With DecoderConfig::fused_qkv the one in the place of q has the outputs of q, k and v
/// side by side, and there is no k and v; with fused_gate_up likewise gate and up. With latent attention
/// there is no k and v either: kv_a makes the short vector of keys and values and the rotated part of the
/// keys, kv_b the rest of the keys and the values, head by head, and q reads what q_a makes, if that is
/// there.
enum class LinearRole { q_a, q, kv_a, kv_b, k, v, o, gate, up, down };

struct LinearSpec {
  std::string module;  ///< "model.layers.0.self_attn.q_proj"
  K k;
  N n;
  bool bias = false;
  LinearRole role = LinearRole::q;
  std::int64_t expert = -1;  ///< of the routed experts; -1: every token passes
};

/// All that can be quantized, in the order of LinearRole; in a layer with experts gate, up and down of the
/// network beside them, if there is one, and then of each.
std::vector<LinearSpec> linear_specs(const DecoderConfig& config, std::int64_t layer);

/// The same by what they read: the linears of an element read one input. In every element, and of the
/// elements, the order is that of linear_specs.
std::vector<std::vector<LinearSpec>> input_groups(const DecoderConfig& config, std::int64_t layer);

/// The norms of a decoder layer: of what q, k and v read, of what gate and up read, and with
/// DecoderConfig::output_norms of what o and down make.
enum class LayerNorm { attention_input, mlp_input, attention_output, mlp_output };
std::string norm_tensor(const DecoderConfig& config, std::int64_t layer, LayerNorm norm);

/// Norms of the vectors that q_a and kv_a make.
std::string latent_norm_tensor(const DecoderConfig& config, std::int64_t layer, LinearRole role);

/// Sets tensor_prefix and head to what the tensors of a checkpoint are named like: decoders that are parts of
/// larger models are "language_model.model." or "model.language_model.". Leaves them if none of these is
/// there.
void locate_tensors(DecoderConfig& config, const WeightSource& weights);

/// The linear whose outputs rate the experts for each token, (hidden, experts.count); never quantized.
std::string router_module(const DecoderConfig& config, std::int64_t layer);

}  // namespace mpk
