#pragma once
// The linear layers of a decoder layer: names and shapes, stated once.

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.hpp"
#include "packer/format/units.hpp"

namespace mpk {

struct LinearSpec {
  std::string module;  ///< "model.layers.0.self_attn.q_proj"
  K k;
  N n;
  bool bias = false;
};

/// In the order q, k, v, o, gate, up, down.
std::vector<LinearSpec> linear_specs(const DecoderConfig& config, std::int64_t layer);

/// The norms of a decoder layer that linears read.
enum class LayerNorm { input, post_attention };
std::string norm_tensor(std::int64_t layer, LayerNorm norm);

}  // namespace mpk
