#include "cli/pipeline/layer_stream.hpp"

namespace mpk {

std::vector<Linear*> linears_of(DecoderLayer& layer, LinearGroup group) {
  switch (group) {
    case LinearGroup::qkv:
      return {&layer.q, &layer.k, &layer.v};
    case LinearGroup::o:
      return {&layer.o};
    case LinearGroup::gate_up:
      return {&layer.gate, &layer.up};
    case LinearGroup::down:
      return {&layer.down};
  }
  return {};
}

LayerStream::LayerStream(const DecoderConfig& config, const DecoderLayer& layer, std::int64_t length,
                         MatrixRef x)
    : stages_{config, layer, length}, x_{x}, heads_(layer.o.weight.rows(), x.cols()) {}

const MatrixF& LayerStream::input(LinearGroup group, Eigen::Index begin, Eigen::Index count) {
  auto state = x_.middleCols(begin, count);
  switch (group) {
    case LinearGroup::qkv:
      stages_.attention_input(state, normed_);
      return normed_;
    case LinearGroup::o:
      stages_.attention_input(state, normed_);
      stages_.attention(normed_, result_);
      heads_.middleCols(begin, count) = result_;
      return result_;
    case LinearGroup::gate_up:
      stages_.add_attention(heads_.middleCols(begin, count), state);
      stages_.mlp_input(state, normed_);
      return normed_;
    case LinearGroup::down:  // computed again by finish(): keeping it would cost several times x
      stages_.mlp_input(state, normed_);
      stages_.activation(normed_, result_);
      return result_;
  }
  return result_;
}

void LayerStream::finish(Eigen::Index begin, Eigen::Index count) {
  auto state = x_.middleCols(begin, count);
  stages_.mlp_input(state, normed_);
  stages_.activation(normed_, result_);
  stages_.add_mlp(result_, state);
}

void LayerStream::finish_at_once(Eigen::Index begin, Eigen::Index count) {
  stages_.add_mlp(result_, x_.middleCols(begin, count));
}

}  // namespace mpk
