#include "cli/pipeline/evaluate.hpp"

#include "cli/pipeline/open_model.hpp"
#include "model/tokenizer/tokenizer.hpp"

namespace mpk {

Perplexity evaluate(const std::filesystem::path& model, const std::filesystem::path& text,
                    std::int64_t seq_len, const Progress& progress) {
  const OpenModel open = open_model(model);
  const auto tokens = load_tokens(text, open.checkpoint.directory());
  const Decoder decoder{open.config, *open.weights};
  const std::string stage = "evaluate " + model.filename().string();
  return perplexity(decoder, tokens, seq_len, [&](std::int64_t done, std::int64_t total) {
    if (progress) progress(stage, done, total, "");
  });
}

}  // namespace mpk
