#pragma once
// Perplexity of a checkpoint, float or packed, on a text.

#include <filesystem>

#include "cli/pipeline/progress.hpp"
#include "model/decoder.hpp"

namespace mpk {

/// `text`: what load_tokens takes, with the checkpoint's own tokenizer; whole windows of `seq_len`, each
/// scored alone.
Perplexity evaluate(const std::filesystem::path& model, const std::filesystem::path& text,
                    std::int64_t seq_len, const Progress& progress = {});

}  // namespace mpk
