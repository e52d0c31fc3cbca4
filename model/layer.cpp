#include "model/layer.hpp"

#include <algorithm>
#include <array>

#include "model/attention.hpp"
#include "model/elementwise.hpp"
#include "model/norm.hpp"

namespace mpk {
namespace {

/// gate <- silu(gate) * up
void gate_by(const MatrixF& up, MatrixF& gate) {
#pragma omp parallel for schedule(static)
  for (Eigen::Index token = 0; token < gate.cols(); ++token) {
    const float* u = up.col(token).data();
    float* g = gate.col(token).data();
    for (Eigen::Index i = 0; i < gate.rows(); ++i) g[i] = silu(g[i]) * u[i];
  }
}

}  // namespace

LayerStages::LayerStages(const DecoderConfig& config, const DecoderLayer& layer, std::int64_t length)
    : config_{config}, layer_{layer}, length_{length}, rope_{config.rope, config.head_dim, length} {}

void LayerStages::attention_input(ConstMatrixRef x, MatrixF& out) const {
  rms_norm(x, layer_.input_norm, static_cast<float>(config_.norm_eps), out);
}

/// Norm (if the family has one) and rotation of every head of every token.
void LayerStages::position_heads(const Eigen::VectorXf& norm, MatrixF& heads) const {
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
  const std::int64_t heads_rows = config_.num_heads * config_.head_dim, tokens = input.cols();
  q_.resize(heads_rows, tokens);
  k_.resize(config_.num_kv_heads * config_.head_dim, tokens);
  v_.resize(config_.num_kv_heads * config_.head_dim, tokens);
  apply(layer_.q, length_, input, q_);
  apply(layer_.k, length_, input, k_);
  apply(layer_.v, length_, input, v_);
  position_heads(layer_.q_norm, q_);
  position_heads(layer_.k_norm, k_);
  const AttentionShape shape{config_.num_heads, config_.num_kv_heads, config_.head_dim,
                             config_.sliding_window[static_cast<std::size_t>(layer_.index)]};
  out.resize(heads_rows, tokens);
  attend(shape, length_, q_, k_, v_, out);
}

void LayerStages::add_attention(ConstMatrixRef heads, MatrixRef x) const {
  add_applied(layer_.o, length_, heads, x);
}

void LayerStages::mlp_input(ConstMatrixRef x, MatrixF& out) const {
  rms_norm(x, layer_.post_attention_norm, static_cast<float>(config_.norm_eps), out);
}

void LayerStages::activation(ConstMatrixRef input, MatrixF& out) {
  out.resize(config_.intermediate, input.cols());
  up_.resize(config_.intermediate, input.cols());
  apply(layer_.gate, length_, input, out);
  apply(layer_.up, length_, input, up_);
  gate_by(up_, out);
}

void LayerStages::add_mlp(ConstMatrixRef activated, MatrixRef x) const {
  add_applied(layer_.down, length_, activated, x);
}

std::int64_t windows_per_chunk(const DecoderConfig& config, std::int64_t length) {
  constexpr std::int64_t kMaxTokens = 4096, kMaxBytes = std::int64_t{1} << 29;
  const std::int64_t heads = config.num_heads + 2 * config.num_kv_heads;
  const std::int64_t floats_per_token = config.hidden + 2 * heads * config.head_dim + 2 * config.intermediate;
  const std::int64_t tokens = std::min(kMaxTokens, kMaxBytes / 4 / floats_per_token);
  return std::max<std::int64_t>(1, tokens / length);
}

void forward_layer(const DecoderConfig& config, const DecoderLayer& layer, std::int64_t length, MatrixRef x,
                   const InputObserver& observe) {
  const std::array<const Linear*, 3> qkv{&layer.q, &layer.k, &layer.v};
  const std::array<const Linear*, 1> o{&layer.o}, down{&layer.down};
  const std::array<const Linear*, 2> gate_up{&layer.gate, &layer.up};
  const auto show = [&](std::span<const Linear* const> linears, const MatrixF& input) {
    if (observe) observe(linears, input);
  };

  LayerStages stages{config, layer, length};
  MatrixF input, heads, activated;
  const std::int64_t chunk = windows_per_chunk(config, length) * length;
  for (std::int64_t first = 0; first < x.cols(); first += chunk) {
    auto state = x.middleCols(first, std::min(chunk, x.cols() - first));
    stages.attention_input(state, input);
    show(qkv, input);
    stages.attention(input, heads);
    show(o, heads);
    stages.add_attention(heads, state);

    stages.mlp_input(state, input);
    show(gate_up, input);
    stages.activation(input, activated);
    show(down, activated);
    stages.add_mlp(activated, state);
  }
}

}  // namespace mpk
