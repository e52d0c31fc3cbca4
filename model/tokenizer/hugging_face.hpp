#pragma once
// The tokenizer of a tokenizer.json: added tokens, normalizer, pre-tokenizer, BPE.

#include <filesystem>
#include <memory>
#include <string_view>

#include "model/tokenizer/tokenizer.hpp"

namespace mpk::tok {

/// Throws Error{bad_input} with file and place, Error{unsupported} that names the component.
std::unique_ptr<Tokenizer> load_tokenizer_json(const std::filesystem::path& file);
/// The same for the text of such a file.
std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view text);

}  // namespace mpk::tok
