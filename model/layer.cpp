#include "model/layer.hpp"

#include <algorithm>
#include <array>

#include "model/attention.hpp"
#include "model/elementwise.hpp"
#include "model/norm.hpp"

namespace mpk {
namespace {

/// out <- f(gate) * up, with gate above up in `gate_up`.
template <class F>
void gate_by(ConstMatrixRef gate_up, MatrixF& out, F f) {
  const Eigen::Index rows = gate_up.rows() / 2;
  out.resize(rows, gate_up.cols());
#pragma omp parallel for schedule(static)
  for (Eigen::Index token = 0; token < out.cols(); ++token) {
    const float* gate = gate_up.data() + token * gate_up.outerStride();
    const float* up = gate + rows;
    float* to = out.col(token).data();
    for (Eigen::Index i = 0; i < rows; ++i) to[i] = f(gate[i]) * up[i];
  }
}

void gate_by(Activation activation, ConstMatrixRef gate_up, MatrixF& out) {
  switch (activation) {
    case Activation::silu:
      return gate_by(gate_up, out, [](float x) { return silu(x); });
    case Activation::gelu_tanh:
      return gate_by(gate_up, out, [](float x) { return gelu_tanh(x); });
  }
}

}  // namespace

Linear& DecoderLayer::linear(LinearRole role, std::int64_t expert) {
  const auto own = [&](Linear& of_layer, Linear Expert::*of_expert) -> Linear& {
    return expert < 0 ? of_layer : experts[static_cast<std::size_t>(expert)].*of_expert;
  };
  switch (role) {
    case LinearRole::q:
      return q;
    case LinearRole::k:
      return k;
    case LinearRole::v:
      return v;
    case LinearRole::o:
      return o;
    case LinearRole::gate:
      return own(gate, &Expert::gate);
    case LinearRole::up:
      return own(up, &Expert::up);
    case LinearRole::down:
      break;
  }
  return own(down, &Expert::down);
}

std::vector<Linear*> DecoderLayer::linears() {
  std::vector<Linear*> all{&q, &k, &v, &o, &gate, &up, &down};
  for (Expert& expert : experts) all.insert(all.end(), {&expert.gate, &expert.up, &expert.down});
  std::erase_if(all, [](const Linear* linear) { return linear->weight.size() == 0; });
  return all;
}

std::vector<LinearGroup> linear_groups(const DecoderConfig& config, DecoderLayer& layer) {
  using Stage = LinearGroup::Stage;
  const bool added = !config.output_norms;
  const auto present = [](std::vector<Linear*> linears) {
    std::erase_if(linears, [](const Linear* linear) { return linear->weight.size() == 0; });
    return linears;
  };
  std::vector<LinearGroup> groups{{Stage::qkv, -1, present({&layer.q, &layer.k, &layer.v})},
                                  {Stage::o, -1, {&layer.o}, added}};
  if (layer.experts.empty()) {
    groups.push_back({Stage::gate_up, -1, present({&layer.gate, &layer.up})});
    groups.push_back({Stage::down, -1, {&layer.down}, added});
  }
  for (std::size_t i = 0; i < layer.experts.size(); ++i) {
    Expert& expert = layer.experts[i];
    groups.push_back({Stage::gate_up, static_cast<std::int64_t>(i), {&expert.gate, &expert.up}});
  }
  for (std::size_t i = 0; i < layer.experts.size(); ++i)
    groups.push_back({Stage::down, static_cast<std::int64_t>(i), {&layer.experts[i].down}});
  return groups;
}

LayerStages::LayerStages(const DecoderConfig& config, const DecoderLayer& layer, std::int64_t length)
    : config_{config},
      layer_{layer},
      length_{length},
      rope_{config.rope_of(layer.index), config.num_rotated(), length} {}

void LayerStages::attention_input(ConstMatrixRef x, MatrixF& out) const {
  rms_norm(x, layer_.input_norm, static_cast<float>(config_.norm_eps), out);
}

/// Norm (if the family has one) and rotation of every head of every token.
void LayerStages::position_heads(const Eigen::VectorXf& norm, MatrixRef heads) const {
  const std::int64_t dim = config_.head_dim;
  const auto eps = static_cast<float>(config_.norm_eps);
#pragma omp parallel for schedule(static)
  for (Eigen::Index token = 0; token < heads.cols(); ++token)
    for (Eigen::Index row = 0; row < heads.rows(); row += dim) {
      float* head = heads.col(token).data() + row;
      if (norm.size() > 0) rms_norm(head, norm.data(), dim, eps, head);
      rope_.rotate(head, token % length_);
    }
}

void LayerStages::attention(ConstMatrixRef input, MatrixF& out) {
  const std::int64_t heads = config_.num_heads * config_.head_dim,
                     kv_heads = config_.num_kv_heads * config_.head_dim, tokens = input.cols();
  qkv_.resize(heads + 2 * kv_heads, tokens);
  auto q = qkv_.topRows(heads), k = qkv_.middleRows(heads, kv_heads), v = qkv_.bottomRows(kv_heads);
  if (config_.fused_qkv) {
    apply(layer_.q, length_, input, qkv_);
  } else {
    apply(layer_.q, length_, input, q);
    apply(layer_.k, length_, input, k);
    apply(layer_.v, length_, input, v);
  }
  position_heads(layer_.q_norm, q);
  position_heads(layer_.k_norm, k);
  const AttentionShape shape{
      config_.num_heads,       config_.num_kv_heads,
      config_.head_dim,        config_.sliding_window[static_cast<std::size_t>(layer_.index)],
      config_.attention_scale, config_.attention_softcap};
  out.resize(heads, tokens);
  attend(shape, length_, q, k, v, out);
}

/// x += norm(out)
void LayerStages::add_normed(MatrixF& out, const Eigen::VectorXf& norm, MatrixRef x) const {
  if (norm.size() > 0) rms_norm(out, norm, static_cast<float>(config_.norm_eps), out);
  x += out;
}

/// x += norm(linear(input))
void LayerStages::add_output(const Linear& linear, const Eigen::VectorXf& norm, ConstMatrixRef input,
                             MatrixRef x) const {
  if (norm.size() == 0) return add_applied(linear, length_, input, x);
  MatrixF out(x.rows(), x.cols());
  apply(linear, length_, input, out);
  add_normed(out, norm, x);
}

void LayerStages::add_attention(ConstMatrixRef heads, MatrixRef x) const {
  add_output(layer_.o, layer_.attention_output_norm, heads, x);
}

void LayerStages::mlp_input(ConstMatrixRef x, MatrixF& out) const {
  rms_norm(x, layer_.post_attention_norm, static_cast<float>(config_.norm_eps), out);
}

void LayerStages::activation(ConstMatrixRef input, MatrixF& out) {
  const std::int64_t width = config_.intermediate;
  gate_up_.resize(2 * width, input.cols());
  if (config_.fused_gate_up) {
    apply(layer_.gate, length_, input, gate_up_);
  } else {
    apply(layer_.gate, length_, input, gate_up_.topRows(width));
    apply(layer_.up, length_, input, gate_up_.bottomRows(width));
  }
  gate_by(config_.activation, gate_up_, out);
}

void LayerStages::add_mlp(ConstMatrixRef activated, MatrixRef x) const {
  add_output(layer_.down, layer_.mlp_output_norm, activated, x);
}

Routing LayerStages::route(ConstMatrixRef input) const {
  return mpk::route(config_.experts, layer_.router, length_, input);
}

void LayerStages::expert_activation(std::int64_t index, std::span<const Eigen::Index> edges,
                                    ConstMatrixRef input, MatrixF& out) {
  const Expert& expert = layer_.experts[static_cast<std::size_t>(index)];
  const std::int64_t width = config_.experts.intermediate;
  gate_up_.resize(2 * width, input.cols());
  apply(expert.gate, edges, input, gate_up_.topRows(width));
  apply(expert.up, edges, input, gate_up_.bottomRows(width));
  gate_by(config_.activation, gate_up_, out);
}

void LayerStages::add_experts(ConstMatrixRef input, MatrixRef x, const InputObserver& observe) {
  const Routing routing = route(input);
  MatrixF sum = MatrixF::Zero(x.rows(), x.cols()), activated, out;
  for (std::size_t i = 0; i < layer_.experts.size(); ++i) {
    const Expert& expert = layer_.experts[i];
    const RoutedTokens tokens = tokens_of(routing, static_cast<std::int64_t>(i));
    if (tokens.columns.empty()) continue;
    const MatrixF own = gather(input, tokens.columns);
    const std::vector<Eigen::Index> edges = window_edges(tokens.columns, length_);
    if (observe) observe(std::array<const Linear*, 2>{&expert.gate, &expert.up}, own);
    expert_activation(static_cast<std::int64_t>(i), edges, own, activated);
    if (observe) observe(std::array<const Linear*, 1>{&expert.down}, activated);
    out.resize(x.rows(), own.cols());
    apply(expert.down, edges, activated, out);
#pragma omp parallel for schedule(static)
    for (Eigen::Index token = 0; token < out.cols(); ++token) {
      const auto at = static_cast<std::size_t>(token);
      sum.col(tokens.columns[at]) += tokens.weights[at] * out.col(token);
    }
  }
  add_normed(sum, layer_.mlp_output_norm, x);
}

std::int64_t windows_per_chunk(const DecoderConfig& config, std::int64_t length) {
  constexpr std::int64_t kMaxTokens = 4096, kMaxBytes = std::int64_t{1} << 29;
  const std::int64_t heads = config.num_heads + 2 * config.num_kv_heads;
  const std::int64_t width = std::max(config.intermediate, config.experts.intermediate);
  const std::int64_t floats_per_token = config.hidden + 2 * heads * config.head_dim + 2 * width;
  const std::int64_t tokens = std::min(kMaxTokens, kMaxBytes / 4 / floats_per_token);
  return std::max<std::int64_t>(1, tokens / length);
}

void forward_layer(const DecoderConfig& config, const DecoderLayer& layer, std::int64_t length, MatrixRef x,
                   const InputObserver& observe) {
  const auto show = [&](std::initializer_list<const Linear*> linears, const MatrixF& input) {
    if (!observe) return;
    std::vector<const Linear*> present{linears};
    std::erase_if(present, [](const Linear* linear) { return linear->weight.size() == 0; });
    observe(present, input);
  };

  LayerStages stages{config, layer, length};
  MatrixF input, heads, activated;
  const std::int64_t chunk = windows_per_chunk(config, length) * length;
  for (std::int64_t first = 0; first < x.cols(); first += chunk) {
    auto state = x.middleCols(first, std::min(chunk, x.cols() - first));
    stages.attention_input(state, input);
    show({&layer.q, &layer.k, &layer.v}, input);
    stages.attention(input, heads);
    show({&layer.o}, heads);
    stages.add_attention(heads, state);

    stages.mlp_input(state, input);
    if (stages.has_experts()) {
      stages.add_experts(input, state, observe);
      continue;
    }
    show({&layer.gate, &layer.up}, input);
    stages.activation(input, activated);
    show({&layer.down}, activated);
    stages.add_mlp(activated, state);
  }
}

}  // namespace mpk
