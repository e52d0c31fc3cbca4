#include "model/tokenizer/added_tokens.hpp"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/printable.hpp"

namespace mpk::tok {
namespace {

AddedToken read_added_token(const Json& entry) {
  const std::string& content = string_member(entry, "content");
  return {content,
          token_id(member(entry, "id"), [&] { return in_quotes(content); }),
          bool_member(entry, "single_word"),
          bool_member(entry, "lstrip"),
          bool_member(entry, "rstrip"),
          bool_member(entry, "normalized"),
          bool_member(entry, "special")};
}

}  // namespace

std::vector<AddedToken> read_added_tokens(const Json& list, const Bpe& model) {
  std::vector<AddedToken> tokens;
  if (list.is_null()) return tokens;
  if (!list.is_array()) bad(fmt::format("expected a list, found {}", list.type_name()));
  std::unordered_set<std::string> seen;
  auto next_free = static_cast<std::int64_t>(model.vocabulary_size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    within(fmt::format("entry {}", i), [&] {
      AddedToken token = read_added_token(list[i]);
      if (!seen.insert(token.content).second) bad(in_quotes(token.content) + " is added twice");
      if (token.content.empty()) return;  // can be nowhere in a text; Hugging Face ignores it too
      const auto in_vocabulary = model.id_of(token.content);
      const std::int64_t expected = in_vocabulary ? *in_vocabulary : next_free++;
      if (token.id != expected)
        bad(fmt::format("{} has id {}, but {} {}", in_quotes(token.content), token.id,
                        in_vocabulary ? "the vocabulary gives it" : "the next free id is", expected));
      tokens.push_back(std::move(token));
    });
  }
  std::stable_partition(tokens.begin(), tokens.end(), [](const AddedToken& token) { return token.special; });
  return tokens;
}

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens)
    : tokens_{std::move(tokens)}, can_begin_(256, false), word_character_{Regex::word_character()} {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const std::string& content = tokens_[i].content;
    if (content.empty()) unsupported("an added token that the normalizer makes empty");
    can_begin_[static_cast<unsigned char>(content.front())] = true;
    std::size_t node = 0;
    for (const char byte : content) {
      const auto [child, is_new] = children_.try_emplace(edge(node, byte), nodes_.size());
      if (is_new) nodes_.emplace_back();
      node = child->second;
    }
    if (nodes_[node].token < 0) nodes_[node].token = static_cast<std::ptrdiff_t>(i);
  }
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::longest_at(std::string_view text,
                                                                      std::size_t begin) const {
  if (!can_begin_[static_cast<unsigned char>(text[begin])]) return std::nullopt;
  std::optional<Match> longest;
  std::size_t node = 0;
  for (std::size_t end = begin; end < text.size();) {
    const auto child = children_.find(edge(node, text[end]));
    if (child == children_.end()) break;
    node = child->second;
    ++end;
    if (nodes_[node].token >= 0)
      longest = Match{{begin, end}, &tokens_[static_cast<std::size_t>(nodes_[node].token)]};
  }
  return longest;
}

bool AddedTokenMatcher::touches_word(std::string_view text, Span span) const {
  const auto is_word = [&](std::size_t begin) {
    std::size_t end = begin;
    next_code_point(text, end);
    return !word_character_.find_all(text.substr(begin, end - begin)).empty();
  };
  return (span.begin > 0 && is_word(previous_boundary(text, span.begin))) ||
         (span.end < text.size() && is_word(span.end));
}

std::vector<AddedTokenMatcher::Part> AddedTokenMatcher::cut(std::string_view text) const {
  std::vector<Part> parts;
  std::size_t done = 0;  // where the text begins that no part covers yet
  for (std::size_t at = 0; at < text.size();) {
    const auto match = longest_at(text, at);
    if (!match) {
      ++at;
      continue;
    }
    // Also behind a match that single_word rejects: Hugging Face looks no further inside it.
    at = match->span.end;
    if (match->token->single_word && touches_word(text, match->span)) continue;

    auto [begin, end] = match->span;
    while (match->token->lstrip && begin > 0) {
      std::size_t previous = previous_boundary(text, begin), next = previous;
      if (!is_white_space(next_code_point(text, next))) break;
      begin = previous;
    }
    // The token before may have taken the same space.
    if (match->token->lstrip) begin = std::max(begin, done);
    for (std::size_t next = end; match->token->rstrip && next < text.size(); end = next)
      if (!is_white_space(next_code_point(text, next))) break;
    if (done < begin) parts.push_back({{done, begin}, std::nullopt});
    parts.push_back({{begin, end}, match->token->id});
    done = end;
  }
  if (done < text.size()) parts.push_back({{done, text.size()}, std::nullopt});
  return parts;
}

}  // namespace mpk::tok
