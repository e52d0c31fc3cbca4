#pragma once
// The tokenizer of a tokenizer.model, by libsentencepiece.

#include <filesystem>
#include <memory>

#include "model/tokenizer/tokenizer.hpp"

namespace mpk::tok {

/// BPE or Unigram, as the model says. The ids are those of SentencePieceProcessor::Encode without bos and
/// eos; control symbols ("<s>") in a text are characters like others, user-defined symbols are tokens.
std::unique_ptr<Tokenizer> load_sentence_piece(const std::filesystem::path& file);

}  // namespace mpk::tok
