#include "model/layer.hpp"

#include <algorithm>
#include <array>

#include "model/attention.hpp"
#include "model/elementwise.hpp"
#include "model/norm.hpp"

namespace mpk {
namespace {

constexpr float kLatentNormEps = 1e-6f;  // whatever rms_norm_eps says, as in transformers

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
    case LinearRole::q_a:
      return q_a;
    case LinearRole::q:
      return q;
    case LinearRole::kv_a:
      return kv_a;
    case LinearRole::kv_b:
      return kv_b;
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
  std::vector<Linear*> all{&q_a, &q, &kv_a, &kv_b, &k, &v, &o, &gate, &up, &down};
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
  std::vector<LinearGroup> groups;
  if (config.latent && config.latent->q_rank > 0) {
    groups.push_back({Stage::qkv, -1, {&layer.q_a, &layer.kv_a}});
    groups.push_back({Stage::latent_q, -1, {&layer.q}});
  } else {
    groups.push_back({Stage::qkv, -1, present({&layer.q, &layer.kv_a, &layer.k, &layer.v})});
  }
  if (config.latent) groups.push_back({Stage::latent_kv, -1, {&layer.kv_b}});
  groups.push_back({Stage::o, -1, {&layer.o}, added});
  if (layer.down.weight.size() > 0) {
    groups.push_back({Stage::gate_up, -1, present({&layer.gate, &layer.up})});
    groups.push_back({Stage::down, -1, {&layer.down}, added && layer.experts.empty()});
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

/// q, k, v are the rows of qkv_.
void LayerStages::project(ConstMatrixRef input, MatrixRef q, MatrixRef k, MatrixRef v) {
  if (config_.fused_qkv) {
    apply(layer_.q, length_, input, qkv_);
  } else {
    apply(layer_.q, length_, input, q);
    apply(layer_.k, length_, input, k);
    apply(layer_.v, length_, input, v);
  }
  position_heads(layer_.q_norm, q);
  position_heads(layer_.k_norm, k);
}

void LayerStages::latent_q(ConstMatrixRef input, MatrixF& out) const {
  out.resize(config_.latent->q_rank, input.cols());
  apply(layer_.q_a, length_, input, out);
  rms_norm(out, layer_.q_a_norm, kLatentNormEps, out);
}

void LayerStages::latent_kv(ConstMatrixRef input, MatrixF& out) const {
  MatrixF compressed;
  compress_kv(input, compressed, out);
}

/// compressed: what kv_a makes; latent: its normed part, input of kv_b.
void LayerStages::compress_kv(ConstMatrixRef input, MatrixF& compressed, MatrixF& latent) const {
  compressed.resize(config_.latent->kv_rank + config_.latent->rope_dim, input.cols());
  apply(layer_.kv_a, length_, input, compressed);
  rms_norm(compressed.topRows(config_.latent->kv_rank), layer_.kv_a_norm, kLatentNormEps, latent);
}

void LayerStages::rotate_last(float* head, std::int64_t position) const {
  float* rotated = head + config_.head_dim - config_.latent->rope_dim;
  if (config_.latent->interleaved)
    rope_.rotate_neighbours(rotated, position);
  else
    rope_.rotate(rotated, position);
}

void LayerStages::project_latent(ConstMatrixRef input, MatrixRef q, MatrixRef k, MatrixRef v) const {
  MatrixF latent, compressed;
  if (config_.latent->q_rank > 0) {
    latent_q(input, latent);
    apply(layer_.q, length_, latent, q);
  } else {
    apply(layer_.q, length_, input, q);
  }
  compress_kv(input, compressed, latent);
  MatrixF keys_and_values(layer_.kv_b.weight.cols(), input.cols());
  apply(layer_.kv_b, length_, latent, keys_and_values);
  const std::int64_t dim = config_.head_dim, rotated = config_.latent->rope_dim, plain = dim - rotated;
  const std::int64_t value_dim = config_.value_dim();
#pragma omp parallel for schedule(static)
  for (Eigen::Index token = 0; token < input.cols(); ++token)
    for (std::int64_t head = 0; head < config_.num_heads; ++head) {
      const auto made = keys_and_values.col(token).segment(head * (plain + value_dim), plain + value_dim);
      auto key = k.col(token).segment(head * dim, dim);
      key.head(plain) = made.head(plain);
      key.tail(rotated) = compressed.col(token).tail(rotated);
      v.col(token).segment(head * value_dim, value_dim) = made.tail(value_dim);
      rotate_last(key.data(), token % length_);
      rotate_last(q.col(token).data() + head * dim, token % length_);
    }
}

void LayerStages::attention(ConstMatrixRef input, MatrixF& out) {
  const std::int64_t heads = config_.num_heads * config_.head_dim,
                     kv_heads = config_.num_kv_heads * config_.head_dim, tokens = input.cols();
  const std::int64_t values = config_.num_kv_heads * config_.value_dim();
  qkv_.resize(heads + kv_heads + values, tokens);
  auto q = qkv_.topRows(heads), k = qkv_.middleRows(heads, kv_heads), v = qkv_.bottomRows(values);
  if (config_.latent)
    project_latent(input, q, k, v);
  else
    project(input, q, k, v);
  const AttentionShape shape{
      config_.num_heads,       config_.num_kv_heads,
      config_.head_dim,        config_.sliding_window[static_cast<std::size_t>(layer_.index)],
      config_.attention_scale, config_.attention_softcap,
      config_.value_dim()};
  out.resize(config_.num_heads * config_.value_dim(), tokens);
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
  const std::int64_t width = layer_.down.weight.rows();
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
  return mpk::route(config_.experts, layer_.router, layer_.router_bias, length_, input);
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
  const std::int64_t width =
      std::max({config.intermediate, config.experts.intermediate, config.experts.shared_intermediate});
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
    if (observe && config.latent) {
      const bool q_is_compressed = config.latent->q_rank > 0;
      show({q_is_compressed ? &layer.q_a : &layer.q, &layer.kv_a}, input);
      if (q_is_compressed) {
        stages.latent_q(input, heads);
        show({&layer.q}, heads);
      }
      stages.latent_kv(input, heads);
      show({&layer.kv_b}, heads);
    } else {
      show({&layer.q, &layer.k, &layer.v}, input);
    }
    stages.attention(input, heads);
    show({&layer.o}, heads);
    stages.add_attention(heads, state);

    stages.mlp_input(state, input);
    if (stages.has_mlp()) {
      show({&layer.gate, &layer.up}, input);
      stages.activation(input, activated);
      show({&layer.down}, activated);
      stages.add_mlp(activated, state);
    }
    if (stages.has_experts()) stages.add_experts(input, state, observe);
  }
}

}  // namespace mpk
