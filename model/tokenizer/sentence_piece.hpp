#pragma once
// The tokenizer of a tokenizer.model, by libsentencepiece.

#include <filesystem>
#include <memory>

#include "model/tokenizer/tokenizer.hpp"

namespace mpk::tok {

/// BPE or Unigram, as the model says, without bos and eos. Control symbols and the unknown symbol ("<s>",
/// "<unk>") that occur literally in a text are tokens, as for Hugging Face's Llama tokenizers; what lies
/// between two of them is encoded on its own, by SentencePieceProcessor::Encode.
std::unique_ptr<Tokenizer> load_sentence_piece(const std::filesystem::path& file);

}  // namespace mpk::tok
