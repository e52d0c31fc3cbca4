#pragma once
// Text to token ids, as the checkpoint's own tokenizer does it.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mpk {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// The ids of `text` (UTF-8), without the special tokens that a template would add around it. Special
  /// tokens that occur literally in the text are recognised, as Hugging Face tokenizers do.
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
};

/// From tokenizer.json if the directory has one, else from tokenizer.model (SentencePiece). Throws
/// Error{bad_input} if there is neither or the file is malformed, Error{unsupported} that names the component
/// it cannot reproduce exactly.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& checkpoint_directory);

/// Calibration or evaluation tokens from a file, by its name: *.safetensors (one integer tensor, or the one
/// called "input_ids"), *.npy (integers), *.jsonl (a list of ids, or {"input_ids": [...]}, per line),
/// anything else: UTF-8 text for the tokenizer of `checkpoint_directory`. Rows of a two-dimensional array or
/// of a jsonl file are concatenated.
std::vector<std::int32_t> load_tokens(const std::filesystem::path& file,
                                      const std::filesystem::path& checkpoint_directory);

}  // namespace mpk
