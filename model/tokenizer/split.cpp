#include "model/tokenizer/split.hpp"

#include <fmt/format.h>

#include "model/tokenizer/json_spec.hpp"
#include "packer/io/printable.hpp"

namespace mpk::tok {
namespace {

struct Name {
  const char* name;
  SplitBehavior behavior;
};
constexpr Name kNames[] = {
    {"Isolated", SplitBehavior::isolated},
    {"Removed", SplitBehavior::removed},
    {"MergedWithPrevious", SplitBehavior::merged_with_previous},
    {"MergedWithNext", SplitBehavior::merged_with_next},
    {"Contiguous", SplitBehavior::contiguous},
};

struct Chunk {
  Span span;
  bool is_match;
};

/// The whole text as an alternation of matches and what lies between them.
std::vector<Chunk> chunks(std::size_t size, const std::vector<Span>& matches, bool invert) {
  std::vector<Chunk> all;
  all.reserve(2 * matches.size() + 1);
  std::size_t done = 0;
  for (const Span& match : matches) {
    if (done < match.begin) all.push_back({{done, match.begin}, invert});
    all.push_back({match, !invert});
    done = match.end;
  }
  if (done < size) all.push_back({{done, size}, invert});
  return all;
}

/// Whether two neighbours become one piece. Of a run of matches only the one next to the text joins it.
bool joined(const Chunk& left, const Chunk& right, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::merged_with_previous:
      return right.is_match && !left.is_match;
    case SplitBehavior::merged_with_next:
      return left.is_match && !right.is_match;
    case SplitBehavior::contiguous:
      return left.is_match == right.is_match;
    case SplitBehavior::isolated:
    case SplitBehavior::removed:
      break;
  }
  return false;
}

}  // namespace

SplitBehavior split_behavior(std::string_view name) {
  for (const Name& known : kNames)
    if (name == known.name) return known.behavior;
  unsupported(fmt::format("split behavior {}", in_quotes(name)));
}

std::vector<Span> split(std::size_t size, const std::vector<Span>& matches, SplitBehavior behavior,
                        bool invert) {
  const std::vector<Chunk> all = chunks(size, matches, invert);
  std::vector<Span> pieces;
  pieces.reserve(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (behavior == SplitBehavior::removed && all[i].is_match) continue;
    if (i > 0 && joined(all[i - 1], all[i], behavior))
      pieces.back().end = all[i].span.end;
    else
      pieces.push_back(all[i].span);
  }
  std::erase_if(pieces, [](const Span& piece) { return piece.size() == 0; });  // of empty matches
  return pieces;
}

}  // namespace mpk::tok
