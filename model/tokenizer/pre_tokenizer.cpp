#include "model/tokenizer/pre_tokenizer.hpp"

#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "model/tokenizer/byte_alphabet.hpp"
#include "model/tokenizer/regex.hpp"
#include "model/tokenizer/split.hpp"
#include "packer/format/error.hpp"
#include "packer/io/printable.hpp"

namespace mpk::tok {
namespace {

// The pattern of GPT-2, which ByteLevel applies unless told not to.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Cuts every word where `find` (text -> matches) says.
template <class Find>
void split_each(Words& words, const Find& find, SplitBehavior behavior, bool invert = false) {
  std::vector<Words::Word> pieces;
  pieces.reserve(words.words.size());
  for (const Words::Word& word : words.words) {
    const std::string_view text = word.span.of(words.text);
    for (const Span& piece : split(text.size(), find(text), behavior, invert))
      pieces.push_back({{word.span.begin + piece.begin, word.span.begin + piece.end},
                        word.opens_text && piece.begin == 0});
  }
  words.words = std::move(pieces);
}

/// Writes every word anew: `write` (word, opens_text, out) appends what stands in its place.
template <class Write>
void rewrite_each(Words& words, const Write& write) {
  std::string text;
  text.reserve(words.text.size() + words.text.size() / 2);
  for (Words::Word& word : words.words) {
    const std::size_t begin = text.size();
    write(word.span.of(words.text), word.opens_text, text);
    word.span = {begin, text.size()};
  }
  words.text = std::move(text);
}

/// Each code point for which `matches` holds.
template <class Predicate>
std::vector<Span> each_code_point(std::string_view text, const Predicate& matches) {
  std::vector<Span> found;
  for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end)
    if (matches(next_code_point(text, end))) found.push_back({begin, end});
  return found;
}

PreTokenizer byte_level(const Json& spec) {
  const bool add_prefix_space = bool_member(spec, "add_prefix_space");
  const bool use_regex = bool_member(spec, "use_regex", true);
  return [add_prefix_space, use_regex, pattern = Regex::pattern(kGpt2Pattern)](Words& words) {
    if (add_prefix_space)
      rewrite_each(words, [](std::string_view word, bool, std::string& out) {
        if (!word.starts_with(' ')) out += ' ';
        out += word;
      });
    if (use_regex)
      split_each(
          words, [&](std::string_view text) { return pattern.find_all(text); }, SplitBehavior::isolated);
    rewrite_each(words,
                 [](std::string_view word, bool, std::string& out) { append_byte_letters(out, word); });
  };
}

PreTokenizer split_at_pattern(const Json& spec) {
  const Regex pattern = Regex::from_json(member(spec, "pattern"));
  const SplitBehavior behavior = split_behavior(string_member(spec, "behavior"));
  const bool invert = bool_member(spec, "invert");
  return [=](Words& words) {
    split_each(
        words, [&](std::string_view text) { return pattern.find_all(text); }, behavior, invert);
  };
}

PreTokenizer digits(const Json& spec) {
  const auto behavior =
      bool_member(spec, "individual_digits") ? SplitBehavior::isolated : SplitBehavior::contiguous;
  return [behavior](Words& words) {
    split_each(
        words, [](std::string_view text) { return each_code_point(text, is_number); }, behavior);
  };
}

enum class PrependScheme { always, first, never };

PrependScheme prepend_scheme(const Json& spec) {
  const bool declared = !optional_member(spec, "prepend_scheme").is_null();
  const std::string name = declared ? string_member(spec, "prepend_scheme") : "always";
  // Files from before prepend_scheme say add_prefix_space; in newer ones it may only confirm the scheme.
  if (!bool_member(spec, "add_prefix_space", true)) {
    if (declared && name != "never")
      bad("\"add_prefix_space\" is false, but \"prepend_scheme\" is " + in_quotes(name));
    return PrependScheme::never;
  }
  if (name == "always") return PrependScheme::always;
  if (name == "first") return PrependScheme::first;
  if (name == "never") return PrependScheme::never;
  unsupported("prepend_scheme " + in_quotes(name));
}

PreTokenizer metaspace(const Json& spec) {
  const std::string replacement = string_member(spec, "replacement");
  std::size_t length = 0;
  if (!replacement.empty()) next_code_point(replacement, length);
  if (replacement.empty() || length != replacement.size()) bad("\"replacement\" is not one character");
  const PrependScheme scheme = prepend_scheme(spec);
  const bool cut = bool_member(spec, "split", true);
  return [replacement, scheme, cut, mark = Regex::literal(replacement)](Words& words) {
    rewrite_each(words, [&](std::string_view word, bool opens_text, std::string& out) {
      const bool prepend = scheme == PrependScheme::always || (scheme == PrependScheme::first && opens_text);
      if (prepend && !word.starts_with(' ') && !word.starts_with(replacement)) out += replacement;
      for (const char c : word) {
        if (c == ' ')
          out += replacement;
        else
          out += c;
      }
    });
    if (cut)
      split_each(
          words, [&](std::string_view text) { return mark.find_all(text); }, SplitBehavior::merged_with_next);
  };
}

PreTokenizer sequence(const Json& spec) {
  std::vector<PreTokenizer> steps;
  for (const Json& step : list_member(spec, "pretokenizers"))
    steps.push_back(within(fmt::format("step {} of the Sequence", steps.size()),
                           [&] { return make_pre_tokenizer(step); }));
  return [steps = std::move(steps)](Words& words) {
    for (const PreTokenizer& step : steps) step(words);
  };
}

struct Row {
  const char* type;
  PreTokenizer (*make)(const Json& spec);
};
constexpr Row kPreTokenizers[] = {
    {"ByteLevel", byte_level}, {"Split", split_at_pattern}, {"Digits", digits},
    {"Metaspace", metaspace},  {"Sequence", sequence},
};

}  // namespace

Words::Words(Segment segment) : text{std::move(segment.text)} {
  if (!text.empty()) words.push_back({{0, text.size()}, segment.opens_text});
}

PreTokenizer make_pre_tokenizer(const Json& spec) {
  if (spec.is_null()) return [](Words&) {};
  const std::string& type = string_member(spec, "type");
  for (const Row& row : kPreTokenizers)
    if (type == row.type) return within("pre_tokenizer " + type, [&] { return row.make(spec); });
  unsupported("pre_tokenizer " + in_quotes(type));
}

}  // namespace mpk::tok
