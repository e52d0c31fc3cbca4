#pragma once
// Tokens that are found in the text before anything else happens to it ("<|end_of_text|>").

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/tokenizer/bpe.hpp"
#include "model/tokenizer/json_spec.hpp"
#include "model/tokenizer/regex.hpp"
#include "model/tokenizer/unicode.hpp"

namespace mpk::tok {

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool single_word = false;  ///< only where no word character touches it
  bool lstrip = false;       ///< takes the white space before it along
  bool rstrip = false;       ///< takes the white space behind it along
  bool normalized = false;   ///< looked for in the normalized text
  bool special = false;
};

/// The "added_tokens" of a tokenizer.json in the order in which they win ties: special ones first.
/// Throws Error{bad_input} if an id is not the one that Hugging Face tokenizers would assign: the
/// vocabulary's, or the next free one. (It renumbers such tokens without a word, and the model sees rows that
/// are not meant.)
std::vector<AddedToken> read_added_tokens(const Json& list, const Bpe& model);

/// Cuts texts at a set of added tokens: at each place the longest wins, from left to right.
class AddedTokenMatcher {
 public:
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  struct Part {
    Span span;
    std::optional<std::int32_t> id;  ///< of the added token; none: text between them
  };
  std::vector<Part> cut(std::string_view text) const;

 private:
  struct Match {
    Span span;
    const AddedToken* token;
  };
  std::optional<Match> longest_at(std::string_view text, std::size_t begin) const;
  bool touches_word(std::string_view text, Span span) const;

  // A trie. Node 0 is the root; children are keyed by node and byte.
  struct Node {
    std::ptrdiff_t token = -1;  // that ends here
  };
  static std::uint64_t edge(std::size_t node, char byte) {
    return node << 8 | static_cast<unsigned char>(byte);
  }
  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_{1};
  std::unordered_map<std::uint64_t, std::size_t> children_;
  std::vector<bool> can_begin_;  // by first byte: most places of a text are refused here
  Regex word_character_;
};

}  // namespace mpk::tok
