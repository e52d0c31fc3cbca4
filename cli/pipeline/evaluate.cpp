#include "cli/pipeline/evaluate.hpp"

#include <fmt/format.h>

#include "cli/pipeline/gpu_evaluate.hpp"
#include "cli/pipeline/open_model.hpp"
#include "model/tokenizer/tokenizer.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

auto stage_progress(const Progress& progress, std::string stage) {
  return [&progress, stage = std::move(stage)](std::int64_t done, std::int64_t total) {
    if (progress) progress(stage, done, total, "");
  };
}

bool on_gpu(const EvaluationDevice& where, const DecoderConfig& config) {
  if (where.device == Device::cpu) return false;
  const std::string reason = gpu_evaluation_refusal(config);
  if (!reason.empty() && where.device == Device::cuda)
    throw Error{ErrorKind::unsupported,
                fmt::format("--device cuda cannot run this model: {}; --device cpu can", reason)};
  return reason.empty();
}

}  // namespace

Perplexity evaluate(const std::filesystem::path& model, const std::filesystem::path& text,
                    std::int64_t seq_len, const EvaluationDevice& where, const Progress& progress) {
  const OpenModel open = open_model(model);
  const auto tokens = load_tokens(text, open.checkpoint.directory());
  const auto report = stage_progress(progress, "evaluate " + model.filename().string());
  if (on_gpu(where, open.config))
    return gpu_evaluate(open, nullptr, tokens, seq_len, where.compute, report).model;
  return perplexity(Decoder{open.config, *open.weights}, tokens, seq_len, report);
}

Comparison evaluate_against(const std::filesystem::path& model, const std::filesystem::path& reference,
                            const std::filesystem::path& text, std::int64_t seq_len,
                            const EvaluationDevice& where, const Progress& progress) {
  const OpenModel open = open_model(model), other = open_model(reference);
  const auto tokens = load_tokens(text, open.checkpoint.directory());
  if (tokens != load_tokens(text, other.checkpoint.directory()))
    throw Error{ErrorKind::bad_input, fmt::format("the tokenizers of {} and {} cut {} into different tokens",
                                                  model.string(), reference.string(), text.string())};
  const auto report = stage_progress(progress, "compare " + model.filename().string());
  if (on_gpu(where, open.config) && on_gpu(where, other.config))
    return gpu_evaluate(open, &other, tokens, seq_len, where.compute, report);
  const Decoder decoder{open.config, *open.weights}, float_decoder{other.config, *other.weights};
  return compare(decoder, float_decoder, tokens, seq_len, report);
}

}  // namespace mpk
