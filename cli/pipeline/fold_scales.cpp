#include "cli/pipeline/fold_scales.hpp"

#include <algorithm>
#include <cmath>

#include "model/linear_specs.hpp"
#include "packer/format/float_bits.hpp"
#include "quantizer/awq.hpp"

namespace mpk {
namespace {

float rounded(float value, DType dtype) {
  std::byte bytes[4];
  store_rounded(value, dtype, bytes);
  return load_float(bytes, dtype);
}

/// Divides a norm's weight and makes `scales` what it was divided by, its rounding included.
void divide(Eigen::VectorXf& norm, DType dtype, Eigen::VectorXf& scales) {
  for (Eigen::Index c = 0; c < norm.size(); ++c) {
    const float divided = rounded(norm(c) / scales(c), dtype);
    const float scale = norm(c) / divided;
    if (std::isfinite(scale) && scale != 0) {
      scales(c) = scale;
      norm(c) = divided;
    } else {  // a weight of zero, or one that leaves the dtype's range
      scales(c) = 1;
    }
  }
}

std::vector<float> floats(const Eigen::VectorXf& values) {
  return {values.data(), values.data() + values.size()};
}

/// channel_of[k]: the output of v that o's input k comes from; elsewhere input k is output k.
std::vector<Eigen::Index> channels(const DecoderConfig& config, LinearGroup group, Eigen::Index inputs) {
  std::vector<Eigen::Index> channel_of(static_cast<std::size_t>(inputs));
  const Eigen::Index heads_per_value = config.num_heads / config.num_kv_heads, dim = config.head_dim;
  for (Eigen::Index k = 0; k < inputs; ++k)
    channel_of[static_cast<std::size_t>(k)] =
        group == LinearGroup::o ? k / dim / heads_per_value * dim + k % dim : k;
  return channel_of;
}

}  // namespace

FoldedLayer fold_awq_scales(DecoderLayer& layer, const DecoderConfig& config, const GroupStatistics& seen,
                            const std::function<std::optional<Scheme>(const std::string&)>& scheme_of,
                            const std::function<DType(const std::string&)>& dtype_of,
                            const QuantizerOptions& options) {
  FoldedLayer folded;
  for (std::size_t i = 0; i < kLinearGroups.size(); ++i) {
    const LinearGroup group = kLinearGroups[i];
    const std::vector<Linear*> linears = linears_of(layer, group);
    Linear* producer = group == LinearGroup::o ? &layer.v : group == LinearGroup::down ? &layer.up : nullptr;
    if (producer && (!scheme_of(producer->module) || producer->bias.size() > 0)) continue;
    std::vector<AwqLayer> trials;
    for (const Linear* linear : linears)
      if (const auto scheme = scheme_of(linear->module)) trials.push_back({&linear->weight, *scheme});
    if (trials.size() != linears.size()) continue;  // one that is copied as it is reads the same input

    const std::vector<Eigen::Index> channel_of = channels(config, group, linears[0]->weight.rows());
    Eigen::VectorXf scales = awq_scales(trials, seen[i].hessian, channel_of, options);
    if (producer) {
      producer->weight.array().rowwise() /= scales.transpose().array();
      folded.linears[producer->module].outputs = floats(scales);
    } else {
      const bool first = group == LinearGroup::qkv;
      const std::string name = norm_tensor(layer.index, first ? LayerNorm::input : LayerNorm::post_attention);
      Eigen::VectorXf& norm = first ? layer.input_norm : layer.post_attention_norm;
      divide(norm, dtype_of(name), scales);
      folded.norms[name] = norm;
    }
    const Eigen::VectorXf inputs = Eigen::VectorXf::NullaryExpr(std::ssize(channel_of), [&](Eigen::Index k) {
      return scales(channel_of[static_cast<std::size_t>(k)]);
    });
    for (Linear* linear : linears) {
      linear->weight.array().colwise() *= inputs.array();
      folded.linears[linear->module].inputs = floats(inputs);
    }
  }
  return folded;
}

}  // namespace mpk
