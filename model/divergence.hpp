#pragma once
// How far a model's predictions are from another's: the Kullback-Leibler divergence of their distributions of
// the next token. It asks every entry of the vocabulary instead of the one token that came, so it is far less
// noisy than a difference of perplexities.

#include <cstdint>
#include <functional>
#include <span>

#include "model/decoder.hpp"

namespace mpk {

/// KL(reference || model) = sum_v p_reference(v) (log p_reference(v) - log p_model(v)), in nats, one per
/// prediction.
struct Divergence {
  double mean = 0;
  double standard_error = 0;  ///< of the mean, from the spread between windows; 0 for a single window
  double percentile_99 = 0;   ///< 99 of 100 predictions are at or below
  double largest = 0;
  double top1_agreement = 0;  ///< part of the predictions in which both rank the same token first
};

struct Comparison {
  Perplexity model, reference;
  Divergence divergence;
};

/// What both models say to one token that came.
struct PairedPrediction {
  double model_loss = 0, reference_loss = 0;  ///< -log p(the token)
  double divergence = 0;
  bool agree = false;  ///< on the token ranked first
};

/// `pairs`: length - 1 for each window, in order.
Comparison summarize(std::span<const PairedPrediction> pairs, std::int64_t windows);

/// Throws Error{bad_input} if the vocabularies differ in size.
void require_same_vocabulary(const DecoderConfig& model, const DecoderConfig& reference);

/// Both models on the same windows, as perplexity() runs one. Holds one state (hidden, tokens.size()) per
/// model and one double per prediction, and of the (vocab, M) logits one tile of each model per thread.
/// `progress(done, total)` may be empty. Throws Error{bad_input} if there is nothing to predict or the
/// vocabularies differ in size.
Comparison compare(const Decoder& model, const Decoder& reference, std::span<const std::int32_t> tokens,
                   std::int64_t length,
                   const std::function<void(std::int64_t done, std::int64_t total)>& progress = {});

}  // namespace mpk
