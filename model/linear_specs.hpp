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

}  // namespace mpk
