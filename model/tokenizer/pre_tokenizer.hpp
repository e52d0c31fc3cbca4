#pragma once
// Cutting a normalized text into the words that BPE works on.

#include <functional>
#include <string>
#include <vector>

#include "model/tokenizer/json_spec.hpp"
#include "model/tokenizer/normalizer.hpp"
#include "model/tokenizer/unicode.hpp"

namespace mpk::tok {

/// A text and the words it is cut into so far: none empty, in order; bytes outside of every word are dropped.
struct Words {
  struct Word {
    Span span;
    bool opens_text;  ///< see Segment
  };
  std::string text;
  std::vector<Word> words;

  /// One word: all of the text.
  explicit Words(Segment segment);
};

using PreTokenizer = std::function<void(Words&)>;

/// From the "pre_tokenizer" of a tokenizer.json; null leaves the text one word.
/// Throws Error{unsupported} that names a type outside of the table in pre_tokenizer.cpp.
PreTokenizer make_pre_tokenizer(const Json& spec);

}  // namespace mpk::tok
