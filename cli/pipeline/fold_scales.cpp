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

/// Divides what a norm multiplies by, `offset` + its weight, and makes `scales` what it was divided by, the
/// rounding of the weight to `dtype` included. Returns the weight.
Eigen::VectorXf divide(Eigen::VectorXf& norm, float offset, DType dtype, Eigen::VectorXf& scales) {
  Eigen::VectorXf weight(norm.size());
  for (Eigen::Index c = 0; c < norm.size(); ++c) {
    weight(c) = rounded(norm(c) / scales(c) - offset, dtype);
    const float divided = weight(c) + offset;
    const float scale = norm(c) / divided;
    if (std::isfinite(scale) && scale != 0) {
      scales(c) = scale;
      norm(c) = divided;
    } else {  // a factor of zero, or one that leaves the dtype's range
      scales(c) = 1;
      weight(c) = rounded(norm(c) - offset, dtype);
    }
  }
  return weight;
}

std::vector<float> floats(const Eigen::VectorXf& values) {
  return {values.data(), values.data() + values.size()};
}

/// channel_of[k]: the output of v that o's input k comes from; elsewhere input k is output k.
std::vector<Eigen::Index> channels(const DecoderConfig& config, LinearGroup::Stage stage,
                                   Eigen::Index inputs) {
  std::vector<Eigen::Index> channel_of(static_cast<std::size_t>(inputs));
  const Eigen::Index heads_per_value = config.num_heads / config.num_kv_heads, dim = config.head_dim;
  for (Eigen::Index k = 0; k < inputs; ++k)
    channel_of[static_cast<std::size_t>(k)] =
        stage == LinearGroup::Stage::o ? k / dim / heads_per_value * dim + k % dim : k;
  return channel_of;
}

/// Outputs of a linear that become, channel by channel, the inputs of a group.
struct Producer {
  Linear* linear = nullptr;  ///< nullptr: a norm is it
  Eigen::Index first = 0;    ///< of these outputs
};

Producer producer_of(DecoderLayer& layer, const DecoderConfig& config, const LinearGroup& group) {
  switch (group.stage) {
    case LinearGroup::Stage::o:
      if (!config.fused_qkv) return {&layer.v};
      return {&layer.q, (config.num_heads + config.num_kv_heads) * config.head_dim};
    case LinearGroup::Stage::down:
      if (!group.reads_all_tokens()) return {&layer.experts[static_cast<std::size_t>(group.expert)].up};
      return config.fused_gate_up ? Producer{&layer.gate, config.intermediate} : Producer{&layer.up};
    case LinearGroup::Stage::qkv:
    case LinearGroup::Stage::latent_q:
    case LinearGroup::Stage::latent_kv:
    case LinearGroup::Stage::gate_up:
      break;
  }
  return {};
}

bool is_foldable_with_latent(const LinearGroup& group) {
  return group.stage == LinearGroup::Stage::qkv || group.stage == LinearGroup::Stage::gate_up ||
         group.stage == LinearGroup::Stage::down;
}

void divide(const Producer& producer, const Eigen::VectorXf& scales, FoldedScales& folded) {
  MatrixF& weight = producer.linear->weight;
  weight.middleCols(producer.first, scales.size()).array().rowwise() /= scales.transpose().array();
  folded.outputs.assign(static_cast<std::size_t>(weight.cols()), 1.0f);
  std::copy_n(scales.data(), scales.size(), folded.outputs.begin() + producer.first);
}

}  // namespace

FoldedLayer fold_awq_scales(DecoderLayer& layer, const DecoderConfig& config, const GroupStatistics& seen,
                            const std::function<std::optional<Scheme>(const std::string&)>& scheme_of,
                            const std::function<DType(const std::string&)>& dtype_of,
                            const QuantizerOptions& options) {
  FoldedLayer folded;
  const std::vector<LinearGroup> groups = linear_groups(config, layer);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const LinearGroup& group = groups[i];
    if (config.latent && !is_foldable_with_latent(group)) continue;
    const Producer producer = producer_of(layer, config, group);
    if (producer.linear && (!scheme_of(producer.linear->module) || producer.linear->bias.size() > 0))
      continue;
    // The router, and the experts, read what the norm before them makes.
    if (!producer.linear && group.stage == LinearGroup::Stage::gate_up && !layer.experts.empty()) continue;
    std::vector<AwqLayer> trials;
    for (const Linear* linear : group.linears)
      if (const auto scheme = scheme_of(linear->module)) trials.push_back({&linear->weight, *scheme});
    if (trials.size() != group.linears.size()) continue;  // one that is copied as it is reads the same input

    const std::vector<Eigen::Index> channel_of =
        channels(config, group.stage, group.linears[0]->weight.rows());
    Eigen::VectorXf scales = awq_scales(trials, seen[i].hessian, channel_of, options);
    if (producer.linear) {
      divide(producer, scales, folded.linears[producer.linear->module]);
    } else {
      const bool first = group.stage == LinearGroup::Stage::qkv;
      const std::string name =
          norm_tensor(config, layer.index, first ? LayerNorm::attention_input : LayerNorm::mlp_input);
      folded.norms[name] = divide(first ? layer.input_norm : layer.post_attention_norm,
                                  static_cast<float>(config.norm_offset), dtype_of(name), scales);
    }
    const Eigen::VectorXf inputs = Eigen::VectorXf::NullaryExpr(std::ssize(channel_of), [&](Eigen::Index k) {
      return scales(channel_of[static_cast<std::size_t>(k)]);
    });
    for (Linear* linear : group.linears) {
      linear->weight.array().colwise() *= inputs.array();
      folded.linears[linear->module].inputs = floats(inputs);
    }
  }
  return folded;
}

void fold_again(DecoderLayer& layer, const DecoderConfig& config, const FoldedLayer& folded) {
  const auto vector = [](const std::vector<float>& values) {
    return Eigen::Map<const Eigen::VectorXf>{values.data(), std::ssize(values)};
  };
  for (Linear* linear : layer.linears())
    if (const auto it = folded.linears.find(linear->module); it != folded.linears.end()) {
      // A linear's inputs were scaled before its outputs: it reads before it is read.
      if (!it->second.inputs.empty()) linear->weight.array().colwise() *= vector(it->second.inputs).array();
      if (!it->second.outputs.empty())
        linear->weight.array().rowwise() /= vector(it->second.outputs).transpose().array();
    }
  for (const auto& [norm, values] : {std::pair{LayerNorm::attention_input, &layer.input_norm},
                                     std::pair{LayerNorm::mlp_input, &layer.post_attention_norm}})
    if (const auto it = folded.norms.find(norm_tensor(config, layer.index, norm)); it != folded.norms.end())
      *values = it->second.array() + static_cast<float>(config.norm_offset);
}

}  // namespace mpk
