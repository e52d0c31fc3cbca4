#pragma once
// What happens to a text before it is cut into words.

#include <functional>
#include <string>

#include "model/tokenizer/json_spec.hpp"

namespace mpk::tok {

/// A stretch of text between added tokens.
struct Segment {
  std::string text;
  bool opens_text = false;  ///< its first character is the first of the whole text (Metaspace asks)
};

using Normalizer = std::function<void(Segment&)>;

/// From the "normalizer" of a tokenizer.json; null does nothing.
/// Throws Error{unsupported} that names a type outside of the table in normalizer.cpp.
Normalizer make_normalizer(const Json& spec);

}  // namespace mpk::tok
