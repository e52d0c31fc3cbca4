#include "cli/pipeline/evaluate.hpp"

#include <fmt/format.h>

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

}  // namespace

Perplexity evaluate(const std::filesystem::path& model, const std::filesystem::path& text,
                    std::int64_t seq_len, const Progress& progress) {
  const OpenModel open = open_model(model);
  const auto tokens = load_tokens(text, open.checkpoint.directory());
  const Decoder decoder{open.config, *open.weights};
  return perplexity(decoder, tokens, seq_len,
                    stage_progress(progress, "evaluate " + model.filename().string()));
}

Comparison evaluate_against(const std::filesystem::path& model, const std::filesystem::path& reference,
                            const std::filesystem::path& text, std::int64_t seq_len,
                            const Progress& progress) {
  const OpenModel open = open_model(model), other = open_model(reference);
  const auto tokens = load_tokens(text, open.checkpoint.directory());
  if (tokens != load_tokens(text, other.checkpoint.directory()))
    throw Error{ErrorKind::bad_input, fmt::format("the tokenizers of {} and {} cut {} into different tokens",
                                                  model.string(), reference.string(), text.string())};
  const Decoder decoder{open.config, *open.weights}, float_decoder{other.config, *other.weights};
  return compare(decoder, float_decoder, tokens, seq_len,
                 stage_progress(progress, "compare " + model.filename().string()));
}

}  // namespace mpk
