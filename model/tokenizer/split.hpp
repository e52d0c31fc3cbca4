#pragma once
// Cutting a text at matches, in the five ways that Hugging Face tokenizers knows.

#include <string_view>
#include <vector>

#include "model/tokenizer/unicode.hpp"

namespace mpk::tok {

/// What becomes of a match: a piece of its own, nothing, a part of the piece before or behind it, or one
/// piece with the matches that touch it.
enum class SplitBehavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };

/// The name as a tokenizer.json spells it ("MergedWithNext"). Throws Error{unsupported} for others.
SplitBehavior split_behavior(std::string_view name);

/// Pieces of a text of `size` bytes; none is empty. `matches` in ascending order, not overlapping.
/// `invert` exchanges matches and the text between them.
std::vector<Span> split(std::size_t size, const std::vector<Span>& matches, SplitBehavior behavior,
                        bool invert = false);

}  // namespace mpk::tok
