#pragma once
// The tokenizer of a tokenizer.json: added tokens, normalizer, pre-tokenizer, BPE.

#include <filesystem>
#include <memory>

#include "model/tokenizer/tokenizer.hpp"

namespace mpk::tok {

/// Throws Error{bad_input} with file and place, Error{unsupported} that names the component.
std::unique_ptr<Tokenizer> load_tokenizer_json(const std::filesystem::path& file);

}  // namespace mpk::tok
