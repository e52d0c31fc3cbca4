#include "model/cuda/gpu_evaluation.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "model/cuda/steps.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

constexpr std::int64_t kLogitTokens = 512;  // tokens whose logits exist at a time

/// One model on its way through the text: the residual stream, then logits.
class GpuRun {
 public:
  GpuRun(const GpuEvaluationModel& model, std::span<const std::int32_t> tokens, std::int64_t length,
         GpuFloat type, const Blas& blas)
      : model_{model},
        tokens_{tokens},
        length_{length},
        chunk_{std::min(gpu_chunk_tokens(length), std::ssize(tokens))},
        type_{type},
        blas_{blas},
        x_{static_cast<std::size_t>(model.config.hidden * std::ssize(tokens))} {}

  void forward(const std::function<void()>& after_layer) {
    const DecoderConfig& config = model_.config;
    embed();
    GpuLayerWeights layer{config, type_};
    GpuLayerStages stages{config, blas_, type_, length_, chunk_};
    DeviceBuffer<std::byte> heads{static_cast<std::size_t>(config.num_heads * config.head_dim * chunk_) *
                                  bytes_of(type_)};
    for (std::int64_t index = 0; index < config.num_layers; ++index) {
      layer.load(config, index, model_.tensors, uploader_);
      uploader_.stream().wait();
      for (std::int64_t begin = 0; begin < std::ssize(tokens_); begin += chunk_) {
        const std::int64_t count = std::min(chunk_, std::ssize(tokens_) - begin);
        stages.forward(layer, count, heads.data(), state(begin));
      }
      blas_.stream().wait();
      after_layer();
    }
    load_head();
  }

  /// (vocab, count) of tokens [begin, begin + count), count <= kLogitTokens; valid until the next call.
  const float* logits(std::int64_t begin, std::int64_t count) {
    const DecoderConfig& config = model_.config;
    gpu_steps::rms_norm(config.hidden, count, state(begin), norm_.data(), static_cast<float>(config.norm_eps),
                        normed_.data(), type_, blas_.stream());
    blas_.gemm(GpuOp::transpose, GpuOp::none, config.vocab, count, config.hidden, 1,
               {head_.data(), type_, config.hidden}, {normed_.data(), type_, config.hidden}, 0,
               {logits_.data(), GpuFloat::f32, config.vocab});
    return logits_.data();
  }

 private:
  float* state(std::int64_t token) { return x_.data() + token * model_.config.hidden; }

  void embed() {
    GpuEmbeddings embeddings{model_.config, model_.tensors, tokens_};
    for (std::int64_t begin = 0; begin < std::ssize(tokens_); begin += chunk_)
      embeddings.upload(begin, std::min(chunk_, std::ssize(tokens_) - begin), uploader_, state(begin));
    uploader_.stream().wait();
  }

  void load_head() {
    const DecoderConfig& config = model_.config;
    const auto hidden = static_cast<std::size_t>(config.hidden),
               vocab = static_cast<std::size_t>(config.vocab);
    norm_ = DeviceBuffer<float>{hidden};
    head_ = DeviceBuffer<std::byte>{hidden * vocab * bytes_of(type_)};
    normed_ = DeviceBuffer<std::byte>{hidden * kLogitTokens * bytes_of(type_)};
    logits_ = DeviceBuffer<float>{vocab * kLogitTokens};
    uploader_.upload(float_tensor(model_.tensors, config.tensor_prefix + "norm.weight", {config.hidden}),
                     norm_.data(), GpuFloat::f32);
    uploader_.upload(float_tensor(model_.tensors,
                                  config.tied_embeddings ? config.tensor_prefix + "embed_tokens.weight"
                                                         : config.head + ".weight",
                                  {config.vocab, config.hidden}),
                     head_.data(), type_);
    uploader_.stream().wait();
  }

  const GpuEvaluationModel& model_;
  std::span<const std::int32_t> tokens_;
  const std::int64_t length_, chunk_;
  const GpuFloat type_;
  const Blas& blas_;
  Uploader uploader_;
  DeviceBuffer<float> x_;  ///< (hidden, tokens)
  DeviceBuffer<float> norm_, logits_;
  DeviceBuffer<std::byte> head_, normed_;
};

PairedPrediction prediction_of(const gpu_steps::GpuPrediction& one, bool paired) {
  const auto log_of = [](const gpu_steps::GpuLogitSum& part) {
    return double{part.top} + std::log(part.sum);
  };
  PairedPrediction result{log_of(one.model) - double{one.model.target}};
  if (!paired) return result;
  result.reference_loss = log_of(one.reference) - double{one.reference.target};
  // Rounding may leave a little less than nothing.
  result.divergence =
      std::max(0.0, one.moment / one.reference.sum - log_of(one.reference) + log_of(one.model));
  result.agree = one.agree != 0;
  return result;
}

/// Predictions of whole windows, the last token of each left out.
std::vector<PairedPrediction> predict(const GpuEvaluationModel& model, const GpuEvaluationModel* reference,
                                      std::span<const std::int32_t> tokens, std::int64_t length,
                                      GpuFloat type, const EvaluationProgress& progress) {
  const Stream stream;
  const Blas blas{stream};
  const std::int64_t steps = model.config.num_layers + (reference ? reference->config.num_layers : 0) + 1;
  std::int64_t done = 0;
  const auto report = [&] {
    ++done;
    if (progress) progress(done, steps);
  };
  GpuRun own{model, tokens, length, type, blas};
  own.forward(report);
  std::optional<GpuRun> other;
  if (reference) {
    other.emplace(*reference, tokens, length, type, blas);
    other->forward(report);
  }
  std::vector<std::int32_t> next(tokens.begin(), tokens.end());  // token i predicts next[i]
  std::rotate(next.begin(), next.begin() + 1, next.end());
  DeviceBuffer<std::int32_t> came{next, stream};
  DeviceBuffer<gpu_steps::GpuPrediction> out{static_cast<std::size_t>(kLogitTokens)};
  std::vector<PairedPrediction> pairs;
  for (std::int64_t begin = 0; begin < std::ssize(tokens); begin += kLogitTokens) {
    const std::int64_t count = std::min(kLogitTokens, std::ssize(tokens) - begin);
    const float* logits = own.logits(begin, count);
    gpu_steps::predictions(model.config.vocab, count, logits, other ? other->logits(begin, count) : nullptr,
                           came.data() + begin, out.data(), stream);
    const std::vector<gpu_steps::GpuPrediction> host = out.to_host(stream);
    for (std::int64_t i = 0; i < count; ++i)
      if ((begin + i) % length != length - 1)
        pairs.push_back(prediction_of(host[static_cast<std::size_t>(i)], reference != nullptr));
  }
  report();
  return pairs;
}

}  // namespace

Perplexity gpu_perplexity(const GpuEvaluationModel& model, std::span<const std::int32_t> tokens,
                          std::int64_t length, GpuFloat type, const EvaluationProgress& progress) {
  require_predictions(std::ssize(tokens), length);
  const std::int64_t windows = std::ssize(tokens) / length;
  tokens = tokens.first(static_cast<std::size_t>(windows * length));
  return summarize(predict(model, nullptr, tokens, length, type, progress), windows).model;
}

Comparison gpu_compare(const GpuEvaluationModel& model, const GpuEvaluationModel& reference,
                       std::span<const std::int32_t> tokens, std::int64_t length, GpuFloat type,
                       const EvaluationProgress& progress) {
  require_predictions(std::ssize(tokens), length);
  require_same_vocabulary(model.config, reference.config);
  const std::int64_t windows = std::ssize(tokens) / length;
  tokens = tokens.first(static_cast<std::size_t>(windows * length));
  return summarize(predict(model, &reference, tokens, length, type, progress), windows);
}

}  // namespace mpk
