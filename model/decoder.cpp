#include "model/decoder.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "model/elementwise.hpp"
#include "model/linear_specs.hpp"
#include "model/norm.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

void require_windows(std::int64_t length, std::int64_t tokens) {
  if (length < 1 || tokens % length != 0)
    throw Error{ErrorKind::bad_input, fmt::format("{} tokens are no whole windows of {}", tokens, length)};
}

}  // namespace

Decoder::Decoder(DecoderConfig config, const WeightSource& weights, Parts parts)
    : config_{std::move(config)}, weights_{weights} {
  if (parts == Parts::layers) return;
  embeddings_ = load(config_.tensor_prefix + "embed_tokens.weight", config_.hidden, config_.vocab);
  if (parts == Parts::embeddings) return;
  if (!config_.tied_embeddings) head_ = load(config_.head + ".weight", config_.hidden, config_.vocab);
  final_norm_ = load_norm(config_.tensor_prefix + "norm.weight", config_.hidden);
}

MatrixF Decoder::load(const std::string& name, std::int64_t rows, std::int64_t cols) const {
  MatrixF matrix = weights_.load(name);
  if (matrix.rows() != rows || matrix.cols() != cols)
    throw Error{ErrorKind::bad_input,
                fmt::format("tensor {} is ({}, {}) as (inputs, outputs), but config.json makes "
                            "it ({}, {})",
                            name, matrix.rows(), matrix.cols(), rows, cols)};
  return matrix;
}

/// What the norm multiplies by.
Eigen::VectorXf Decoder::load_norm(const std::string& name, std::int64_t size) const {
  const Eigen::VectorXf weight = load(name, size, 1);
  return config_.norm_offset == 0 ? weight : weight.array() + static_cast<float>(config_.norm_offset);
}

Linear Decoder::load_linear(const std::string& module, std::int64_t k, std::int64_t n, bool bias) const {
  Linear linear{module, load(module + ".weight", k, n), {}};
  if (bias) linear.bias = load(module + ".bias", n, 1);
  return linear;
}

DecoderLayer Decoder::load_layer(std::int64_t index) const {
  if (index < 0 || index >= config_.num_layers)
    throw Error{ErrorKind::bad_input, fmt::format("layer {} of {}", index, config_.num_layers)};
  const std::string prefix = fmt::format("{}layers.{}.", config_.tensor_prefix, index);
  DecoderLayer layer;
  layer.index = index;
  if (config_.has_experts(index)) {
    layer.experts.resize(static_cast<std::size_t>(config_.experts.count));
    layer.router = load_linear(router_module(config_, index), config_.hidden, config_.experts.count, false);
    if (config_.experts.selection_bias)
      layer.router_bias =
          load(router_module(config_, index) + ".e_score_correction_bias", config_.experts.count, 1);
  }
  for (const LinearSpec& spec : linear_specs(config_, index))
    layer.linear(spec.role, spec.expert) = load_linear(spec.module, spec.k.value, spec.n.value, spec.bias);
  const auto norm = [&](LayerNorm which) {
    return load_norm(norm_tensor(config_, index, which), config_.hidden);
  };
  layer.input_norm = norm(LayerNorm::attention_input);
  layer.post_attention_norm = norm(LayerNorm::mlp_input);
  if (config_.output_norms) {
    layer.attention_output_norm = norm(LayerNorm::attention_output);
    layer.mlp_output_norm = norm(LayerNorm::mlp_output);
  }
  if (config_.latent) {
    layer.kv_a_norm =
        load_norm(latent_norm_tensor(config_, index, LinearRole::kv_a), config_.latent->kv_rank);
    if (config_.latent->q_rank > 0)
      layer.q_a_norm = load_norm(latent_norm_tensor(config_, index, LinearRole::q_a), config_.latent->q_rank);
  }
  if (config_.qk_norm) {
    layer.q_norm = load_norm(prefix + "self_attn.q_norm.weight", config_.head_dim);
    layer.k_norm = load_norm(prefix + "self_attn.k_norm.weight", config_.head_dim);
  }
  return layer;
}

MatrixF Decoder::embed(std::span<const std::int32_t> tokens) const {
  for (const std::int32_t token : tokens)
    if (token < 0 || token >= config_.vocab)
      throw Error{ErrorKind::bad_input,
                  fmt::format("token {} is outside the vocabulary of {}", token, config_.vocab)};
  const auto scale = static_cast<float>(config_.embedding_scale);
  MatrixF x(config_.hidden, static_cast<Eigen::Index>(tokens.size()));
#pragma omp parallel for schedule(static)
  for (Eigen::Index i = 0; i < x.cols(); ++i)
    x.col(i) = embeddings_.col(tokens[static_cast<std::size_t>(i)]) * scale;
  return x;
}

void Decoder::forward(const DecoderLayer& layer, std::int64_t length, MatrixF& x,
                      const InputObserver& observe) const {
  require_windows(length, x.cols());
  forward_layer(config_, layer, length, x, observe);
}

void Decoder::final_norm(ConstMatrixRef x, MatrixF& out) const {
  rms_norm(x, final_norm_, static_cast<float>(config_.norm_eps), out);
}

MatrixF Decoder::logits(const MatrixF& x, std::int64_t length) const {
  if (length == 0) length = std::max<std::int64_t>(1, x.cols());
  require_windows(length, x.cols());
  MatrixF normed;
  final_norm(x, normed);
  MatrixF out(config_.vocab, x.cols());
  apply(head(), length, normed, out);
  if (const auto softcap = logit_softcap()) {
#pragma omp parallel for schedule(static)
    for (Eigen::Index token = 0; token < out.cols(); ++token)
      cap(out.col(token).data(), out.rows(), *softcap);
  }
  return out;
}

MatrixF logits(const Decoder& decoder, std::span<const std::int32_t> tokens, std::int64_t length) {
  MatrixF x = decoder.embed(tokens);
  for (std::int64_t index = 0; index < decoder.config().num_layers; ++index)
    decoder.forward(decoder.load_layer(index), length, x);
  return decoder.logits(x, length);
}

}  // namespace mpk
