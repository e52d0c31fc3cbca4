// Each behaviour on one drawn example, and what all of them have in common.

#include <random>
#include <string>
#include <vector>

#include "model/tokenizer/split.hpp"
#include "tests/support/catch.hpp"

namespace mpk::test {
namespace {

using tok::Span;
using tok::SplitBehavior;

std::vector<std::string> pieces(const std::string& text, SplitBehavior behavior, bool invert = false) {
  std::vector<Span> dashes;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (text[i] == '-') dashes.push_back({i, i + 1});
  std::vector<std::string> found;
  for (const Span& span : tok::split(text.size(), dashes, behavior, invert))
    found.emplace_back(span.of(text));
  return found;
}

TEST_CASE("what becomes of a match", "[tokenizer]") {
  using Pieces = std::vector<std::string>;
  const std::string text = "-the-final--countdown";
  CHECK(pieces(text, SplitBehavior::isolated) == Pieces{"-", "the", "-", "final", "-", "-", "countdown"});
  CHECK(pieces(text, SplitBehavior::removed) == Pieces{"the", "final", "countdown"});
  CHECK(pieces(text, SplitBehavior::merged_with_previous) == Pieces{"-", "the-", "final-", "-", "countdown"});
  CHECK(pieces(text, SplitBehavior::merged_with_next) == Pieces{"-the", "-final", "-", "-countdown"});
  CHECK(pieces(text, SplitBehavior::contiguous) == Pieces{"-", "the", "-", "final", "--", "countdown"});
  CHECK(pieces(text, SplitBehavior::removed, true) == Pieces{"-", "-", "-", "-"});
}

TEST_CASE("pieces are in order, not empty, and lose nothing but removed matches", "[tokenizer]") {
  std::mt19937 random{seed()};
  for (int round = 0; round < 300; ++round) {
    std::string text(random() % 12, 'x');
    for (char& c : text) c = random() % 2 ? '-' : 'x';
    for (const auto behavior :
         {SplitBehavior::isolated, SplitBehavior::removed, SplitBehavior::merged_with_previous,
          SplitBehavior::merged_with_next, SplitBehavior::contiguous})
      for (const bool invert : {false, true}) {
        std::string joined, kept = text;
        if (behavior == SplitBehavior::removed) std::erase(kept, invert ? 'x' : '-');
        for (const std::string& piece : pieces(text, behavior, invert)) {
          REQUIRE(!piece.empty());
          joined += piece;
        }
        CAPTURE(text, static_cast<int>(behavior), invert);
        REQUIRE(joined == kept);
      }
  }
}

}  // namespace
}  // namespace mpk::test
