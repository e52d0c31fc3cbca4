#pragma once
// The decoder's forward pass on the CPU, float32, one layer of weights in memory at a time.
//
// Activations are column-major (features, M): one column per token. M = windows * length; window w owns
// columns w * length .. (w + 1) * length - 1, and attention is causal inside a window and never crosses
// windows. Results do not depend on the number of threads, nor (per window) on how many windows are passed
// together.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "model/config.hpp"
#include "model/layer.hpp"
#include "model/weight_source.hpp"
#include "quantizer/linalg/gemm.hpp"

namespace mpk {

class Decoder {
 public:
  /// What is there from the beginning. Nothing else than `all` has logits, `layers` has no embeddings either.
  enum class Parts { all, embeddings, layers };
  /// `weights` must outlive the decoder. Loads embeddings, final norm and head; layers come by load_layer.
  /// Throws what `weights` throws, and Error{bad_input} for a tensor whose shape is not the one config
  /// implies.
  Decoder(DecoderConfig config, const WeightSource& weights, Parts parts = Parts::all);

  const DecoderConfig& config() const { return config_; }
  DecoderLayer load_layer(std::int64_t index) const;

  /// Token embeddings, (hidden, tokens.size()). Throws Error{bad_input} for an id outside the vocabulary.
  MatrixF embed(std::span<const std::int32_t> tokens) const;

  /// x <- layer(x), for windows of `length` tokens. `observe` may be empty; long inputs pass in chunks of
  /// windows, and it sees each chunk (layer.hpp, which also has the stages one by one).
  void forward(const DecoderLayer& layer, std::int64_t length, MatrixF& x,
               const InputObserver& observe = {}) const;

  /// Final norm and head: (vocab, M). `length` 0: all of x is one window.
  MatrixF logits(const MatrixF& x, std::int64_t length = 0) const;

  /// The two steps of logits(), for callers who cannot hold (vocab, M).
  void final_norm(ConstMatrixRef x, MatrixF& out) const;
  const MatrixF& head() const { return config_.tied_embeddings ? embeddings_ : head_; }  ///< (hidden, vocab)
  /// The head's outputs s become c tanh(s / c) where the family has a softcap c.
  std::optional<float> logit_softcap() const {
    return config_.logit_softcap ? std::optional{static_cast<float>(*config_.logit_softcap)} : std::nullopt;
  }

 private:
  MatrixF load(const std::string& name, std::int64_t rows, std::int64_t cols) const;
  Eigen::VectorXf load_norm(const std::string& name, std::int64_t size) const;
  Linear load_linear(const std::string& module, std::int64_t k, std::int64_t n, bool bias) const;

  DecoderConfig config_;
  const WeightSource& weights_;
  MatrixF embeddings_;  ///< (hidden, vocab)
  MatrixF head_;        ///< (hidden, vocab); empty when tied
  Eigen::VectorXf final_norm_;
};

/// The whole model at once, for tests and short inputs: (vocab, tokens.size()), windows of `length`.
MatrixF logits(const Decoder& decoder, std::span<const std::int32_t> tokens, std::int64_t length);

struct Perplexity {
  double value = 0;  ///< exp(mean cross-entropy)
  std::int64_t windows = 0, predictions = 0;
};

/// Throws Error{bad_input} unless `num_tokens` in windows of `length` leave something to predict.
void require_predictions(std::int64_t num_tokens, std::int64_t length);

/// exp of the mean cross-entropy over the length - 1 predictions of each whole window of `length` tokens; the
/// rest of the tokens is dropped. Streams layer by layer: each layer is loaded once. `progress(done, total)`
/// may be empty. Throws Error{bad_input} if there is nothing to predict.
Perplexity perplexity(const Decoder& decoder, std::span<const std::int32_t> tokens, std::int64_t length,
                      const std::function<void(std::int64_t done, std::int64_t total)>& progress = {});

}  // namespace mpk
