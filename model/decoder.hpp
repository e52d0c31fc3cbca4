#pragma once
// The decoder's forward pass on the CPU, float32, one layer of weights in memory at a time.
//
// Activations are column-major (features, M): one column per token. M = windows * length; window w owns columns
// w * length .. (w + 1) * length - 1, and attention is causal inside a window and never crosses windows. Results do not
// depend on the number of threads, nor (per window) on how many windows are passed together.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/config.hpp"
#include "model/weight_source.hpp"
#include "quantizer/linalg/gemm.hpp"

namespace mpk {

/// One linear layer: y = weight^T x + bias.
struct Linear {
  std::string module;     ///< checkpoint name without ".weight", e.g. "model.layers.0.mlp.down_proj"
  MatrixF weight;         ///< (K, N)
  Eigen::VectorXf bias;   ///< (N), or empty
};

struct DecoderLayer {
  std::int64_t index = 0;
  Linear q, k, v, o, gate, up, down;
  Eigen::VectorXf input_norm, post_attention_norm;  ///< (hidden)
  Eigen::VectorXf q_norm, k_norm;                   ///< (head_dim), or empty

  /// The linears in the order in which the forward pass meets them.
  std::vector<Linear*> linears() { return {&q, &k, &v, &o, &gate, &up, &down}; }
};

/// Sees the input x (K, M) of the linears that share it (q, k, v together; gate and up together), before they run.
using InputObserver = std::function<void(std::span<const Linear* const> linears, ConstMatrixRef x)>;

class Decoder {
 public:
  /// `weights` must outlive the decoder. Loads embeddings, final norm and head; layers come by load_layer.
  Decoder(DecoderConfig config, const WeightSource& weights);

  const DecoderConfig& config() const { return config_; }
  DecoderLayer load_layer(std::int64_t index) const;

  /// Token embeddings, (hidden, tokens.size()). Throws Error{bad_input} for an id outside the vocabulary.
  MatrixF embed(std::span<const std::int32_t> tokens) const;

  /// x <- layer(x), for windows of `length` tokens. `observe` may be empty.
  void forward(const DecoderLayer& layer, std::int64_t length, MatrixF& x, const InputObserver& observe = {}) const;

  /// Final norm and head: (vocab, M).
  MatrixF logits(const MatrixF& x) const;

 private:
  DecoderConfig config_;
  const WeightSource& weights_;
  MatrixF embeddings_;  ///< (hidden, vocab)
  MatrixF head_;        ///< (hidden, vocab); empty when tied
  Eigen::VectorXf final_norm_;
};

/// The whole model at once, for tests and short inputs: (vocab, tokens.size()), windows of `length`.
MatrixF logits(const Decoder& decoder, std::span<const std::int32_t> tokens, std::int64_t length);

struct Perplexity {
  double value = 0;               ///< exp(mean cross-entropy)
  std::int64_t windows = 0, predictions = 0;
};

/// exp of the mean cross-entropy over the length - 1 predictions of each whole window of `length` tokens; the rest of
/// the tokens is dropped. Streams layer by layer: each layer is loaded once. `progress(done, total)` may be empty.
Perplexity perplexity(const Decoder& decoder, std::span<const std::int32_t> tokens, std::int64_t length,
                      const std::function<void(std::int64_t done, std::int64_t total)>& progress = {});

}  // namespace mpk
