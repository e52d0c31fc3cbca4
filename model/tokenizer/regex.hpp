#pragma once
// Patterns of a tokenizer.json, matched by PCRE2.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "model/tokenizer/unicode.hpp"

namespace mpk::tok {

class Regex {
 public:
  /// A pattern in Oniguruma's Ruby syntax, which Hugging Face tokenizers uses (oniguruma.hpp says what of
  /// it).
  static Regex pattern(std::string_view oniguruma);
  /// A text that stands for itself.
  static Regex literal(std::string_view text);
  /// One word character in the sense of Rust's regex crate, which decides what added tokens may touch.
  static Regex word_character();
  /// {"Regex": "..."} or {"String": "..."}, as a tokenizer.json spells the two.
  static Regex from_json(const nlohmann::json& pattern);

  /// All matches in `text` from left to right, none overlapping, none empty directly behind another match.
  /// Throws Error{unsupported} if the pattern backtracks beyond any use.
  std::vector<Span> find_all(std::string_view text) const;
  /// Whether the pattern can match without consuming anything.
  bool can_be_empty() const;

 private:
  struct Code;
  Regex(std::string_view shown, std::string_view pcre2, unsigned options);
  std::shared_ptr<const Code> code_;
};

}  // namespace mpk::tok
