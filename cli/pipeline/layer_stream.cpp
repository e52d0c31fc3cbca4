#include "cli/pipeline/layer_stream.hpp"

namespace mpk {

LayerStream::LayerStream(const DecoderConfig& config, const DecoderLayer& layer, std::int64_t length,
                         MatrixRef x)
    : stages_{config, layer, length}, length_{length}, x_{x}, heads_(layer.o.weight.rows(), x.cols()) {}

const MatrixF& LayerStream::input(LinearGroup::Stage stage, Eigen::Index begin, Eigen::Index count) {
  auto state = x_.middleCols(begin, count);
  switch (stage) {
    case LinearGroup::Stage::qkv:
      stages_.attention_input(state, normed_);
      return normed_;
    case LinearGroup::Stage::latent_q:
      stages_.attention_input(state, normed_);
      stages_.latent_q(normed_, result_);
      return result_;
    case LinearGroup::Stage::latent_kv:
      stages_.attention_input(state, normed_);
      stages_.latent_kv(normed_, result_);
      return result_;
    case LinearGroup::Stage::o:
      stages_.attention_input(state, normed_);
      stages_.attention(normed_, result_);
      heads_.middleCols(begin, count) = result_;
      return result_;
    case LinearGroup::Stage::gate_up:
      stages_.mlp_input(state, normed_);
      return normed_;
    case LinearGroup::Stage::down:  // computed again by finish(): keeping it would cost several times x
      stages_.mlp_input(state, normed_);
      stages_.activation(normed_, result_);
      return result_;
  }
  return result_;
}

void LayerStream::end_attention(Eigen::Index begin, Eigen::Index count) {
  stages_.add_attention(heads_.middleCols(begin, count), x_.middleCols(begin, count));
}

void LayerStream::finish(Eigen::Index begin, Eigen::Index count) {
  auto state = x_.middleCols(begin, count);
  stages_.mlp_input(state, normed_);
  if (stages_.has_mlp()) {
    stages_.activation(normed_, result_);
    stages_.add_mlp(result_, state);
  }
  if (stages_.has_experts()) stages_.add_experts(normed_, state);
}

void LayerStream::finish_at_once(Eigen::Index begin, Eigen::Index count) {
  stages_.add_mlp(result_, x_.middleCols(begin, count));
}

Routing LayerStream::route(Eigen::Index begin, Eigen::Index count) {
  stages_.mlp_input(x_.middleCols(begin, count), normed_);
  return stages_.route(normed_);
}

const MatrixF& LayerStream::expert_input(const LinearGroup& group, std::span<const Eigen::Index> columns) {
  stages_.mlp_input(gather(x_, columns), normed_);
  if (group.stage == LinearGroup::Stage::gate_up) return normed_;
  stages_.expert_activation(group.expert, window_edges(columns, length_), normed_, result_);
  return result_;
}

}  // namespace mpk
