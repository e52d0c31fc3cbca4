#include "model/tokenizer/oniguruma.hpp"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "model/tokenizer/json_spec.hpp"
#include "model/tokenizer/oniguruma_tables.hpp"
#include "model/tokenizer/unicode.hpp"
#include "packer/io/printable.hpp"

namespace mpk::tok {
namespace {

bool is_ascii_alnum(char32_t c) {
  return c < 0x80 && std::isalnum(static_cast<int>(c));
}

std::string literal(char32_t c) {
  if (c < 0x20 || c == 0x7F) return fmt::format("\\x{{{:x}}}", static_cast<std::uint32_t>(c));
  std::string text = c < 0x80 && !is_ascii_alnum(c) ? "\\" : "";
  append_utf8(text, c);
  return text;
}

/// What an escape or a plain character contributes: one code point, or the contents of a class.
struct Item {
  std::optional<char32_t> code_point;
  std::string members;
};

class Translation {
 public:
  explicit Translation(std::string_view pattern) : in_{pattern} {}

  std::string run() {
    while (at_ < in_.size()) step();
    if (!groups_.empty()) bad(place("a group is not closed"));
    return std::move(out_);
  }

 private:
  struct Group {
    std::size_t begin;  // in out_
    bool ignore_case;   // outside of the group
    bool is_assertion;
  };

  std::string place(std::string_view what) const {
    return fmt::format("pattern {}: {} at byte {}", in_quotes(in_), what, at_);
  }
  bool looking_at(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  char peek(std::size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }

  void step() {
    switch (peek()) {
      case '(':
        return open_group();
      case ')':
        return close_group();
      case '[':
        return add_atom(character_class());
      case '\\':
        return escape();
      case '.':
        ++at_;
        return add_atom(".");
      case '^':
      case '$':
      case '|':
        return add_non_atom(std::string{in_[at_++]});
      case '*':
      case '+':
      case '?':
        return quantifier(std::string{in_[at_++]}, false);
      case '{':
        if (const auto bounds = interval()) return quantifier(*bounds, true);
        ++at_;
        return add_literal('{');
      default:
        return add_literal(next_code_point(in_, at_));
    }
  }

  void add_atom(const std::string& text) {
    atom_ = out_.size();
    out_ += text;
    last_letter_ = '\0';
  }
  void add_non_atom(const std::string& text) {
    atom_.reset();
    out_ += text;
    last_letter_ = '\0';
  }
  void add_literal(char32_t c) {
    const char letter = is_ascii_alnum(c) ? static_cast<char>(std::tolower(static_cast<int>(c))) : '\0';
    if (ignore_case_) {
      const char pair[] = {last_letter_, letter};
      if (c >= 0x80 || std::ranges::find(kFoldedPairs, std::string_view{pair, 2}) != std::end(kFoldedPairs))
        unsupported(place("case folding of one character to several"));
    }
    add_atom(literal(c));
    last_letter_ = letter;
  }

  void open_group() {
    const Group group{out_.size(), ignore_case_,
                      looking_at("(?=") || looking_at("(?!") || looking_at("(?<=") || looking_at("(?<!")};
    if (looking_at("(?i)") && at_ == 0) {  // further in, the two engines disagree on what it governs
      at_ += 4;
      ignore_case_ = true;
      return add_non_atom("(?i)");
    }
    static constexpr std::string_view kKnown[] = {"(?:",  "(?>",  "(?=",  "(?!",
                                                  "(?<=", "(?<!", "(?i:", "(?-i:"};
    const auto known = std::ranges::find_if(kKnown, [&](auto text) { return looking_at(text); });
    if (known == std::end(kKnown) && peek(1) == '?') unsupported(place("this kind of group"));
    if (looking_at("(?i:")) ignore_case_ = true;
    if (looking_at("(?-i:")) ignore_case_ = false;
    groups_.push_back(group);
    at_ += known == std::end(kKnown) ? 1 : known->size();
    add_non_atom(
        std::string{known == std::end(kKnown) ? "(?:" : *known});  // no one asks what a group captured
  }

  void close_group() {
    if (groups_.empty()) bad(place("')' without '('"));
    const Group group = groups_.back();
    groups_.pop_back();
    ++at_;
    add_non_atom(")");
    ignore_case_ = group.ignore_case;
    if (!group.is_assertion) atom_ = group.begin;
  }

  /// "{n}", "{n,}", "{n,m}" or "{,m}" as PCRE2 writes it; nothing, and nothing read, where the brace is a
  /// character.
  std::optional<std::string> interval() {
    std::size_t end = at_ + 1;
    const auto digits = [&] {
      const std::size_t begin = end;
      while (end < in_.size() && in_[end] >= '0' && in_[end] <= '9') ++end;
      return std::string{in_.substr(begin, end - begin)};
    };
    const std::string low = digits();
    std::string bounds = low;
    if (end < in_.size() && in_[end] == ',') {
      ++end;
      const std::string high = digits();
      if (low.empty() && high.empty()) return std::nullopt;
      bounds = (low.empty() ? "0" : low) + "," + high;
    }
    if (bounds.empty() || end >= in_.size() || in_[end] != '}') return std::nullopt;
    at_ = end + 1;
    return fmt::format("{{{}}}", bounds);
  }

  void quantifier(const std::string& text, bool is_interval) {
    if (!atom_) bad(place("nothing to repeat"));
    const char suffix = peek();
    const bool regroup = is_interval && (suffix == '+' || (suffix == '?' && text.find(',') == text.npos));
    if (regroup) out_.insert(*atom_, "(?:");
    out_ += text;
    if (regroup) out_ += ')';
    if (suffix == '?' || suffix == '+') {
      out_ += suffix;
      ++at_;
    }
    if (peek() == '*' || peek() == '+' || peek() == '?' || (peek() == '{' && interval()))
      unsupported(place("a repetition of a repetition"));
    atom_.reset();
    last_letter_ = '\0';
  }

  void escape() {
    switch (peek(1)) {
      case 'b':
        at_ += 2;
        return add_non_atom(word_boundary("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))"));
      case 'B':
        at_ += 2;
        return add_non_atom(word_boundary("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))"));
      case 'A':
      case 'z':
      case 'Z':
        add_non_atom(std::string{in_.substr(at_, 2)});
        at_ += 2;
        return;
      default:
        break;
    }
    for (const SetEscape& set : kSetEscapes) {
      if (peek(1) != set.letter && peek(1) != std::toupper(set.letter)) continue;
      const bool negated = peek(1) != set.letter;
      at_ += 2;
      return add_atom(fmt::format("[{}{}]", negated ? "^" : "", set.members));
    }
    const Item item = escaped_item();
    if (item.code_point)
      add_literal(*item.code_point);
    else
      add_atom(item.members);
  }
  static std::string word_boundary(const char* form) { return fmt::format(fmt::runtime(form), kWord); }

  /// Reads an escape that may stand inside a class as well as outside.
  Item escaped_item() {
    const char letter = peek(1);
    for (const LiteralEscape& known : kLiteralEscapes)
      if (letter == known.letter) return at_ += 2, Item{known.code_point, {}};
    if (letter == 'p' || letter == 'P') return {std::nullopt, property()};
    if (letter == 'x' && peek(2) == '{') {
      const auto close = in_.find('}', at_);
      if (close == in_.npos) bad(place("\\x{ without }"));
      return {hexadecimal(at_ + 3, close, close + 1), {}};
    }
    if (letter == 'x') return {hexadecimal(at_ + 2, at_ + 4, at_ + 4), {}};
    if (letter == 'u') return {hexadecimal(at_ + 2, at_ + 6, at_ + 6), {}};
    if (is_ascii_alnum(static_cast<unsigned char>(letter))) unsupported(place("this escape"));
    if (++at_ == in_.size()) bad(place("a backslash without anything behind it"));
    return {next_code_point(in_, at_), {}};
  }

  char32_t hexadecimal(std::size_t begin, std::size_t end, std::size_t next) {
    char32_t value = 0;
    if (end > in_.size() || begin == end || end - begin > 6) bad(place("an incomplete hexadecimal escape"));
    for (const unsigned char c : in_.substr(begin, end - begin)) {
      if (!std::isxdigit(c)) bad(place("an incomplete hexadecimal escape"));
      value = value * 16 + static_cast<char32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) bad(place("an escape that is no character"));
    // In Oniguruma, \xE3 is one byte of a longer character.
    if (in_[at_ + 1] == 'x' && in_[at_ + 2] != '{' && value >= 0x80) unsupported(place("a byte escape"));
    at_ = next;
    return value;
  }

  std::string property() {
    const auto close = in_.find('}', at_);
    if (peek(2) != '{' || close == in_.npos) unsupported(place("a property without braces"));
    bool negated = peek(1) == 'P';
    std::string name;
    for (const char c : in_.substr(at_ + 3, close - at_ - 3)) {
      if (c == '^' && name.empty())
        negated = !negated;
      else if (c != '_' && c != '-' && c != ' ')
        name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    const auto known = std::ranges::find_if(kProperties, [&](const Property& p) { return name == p.name; });
    if (known == std::end(kProperties)) unsupported(place("this property"));
    if (ignore_case_ && (name == "lu" || name == "ll" || name == "lt"))
      unsupported(place("a letter case under (?i)"));
    at_ = close + 1;
    return fmt::format("\\{}{{{}}}", negated ? 'P' : 'p', known->pcre2);
  }

  std::string character_class() {
    std::string text = "[";
    ++at_;
    const bool negated = peek() == '^';
    if (negated) text += '^', ++at_;
    const std::size_t first = at_;
    if (peek() == ']') bad(place("an empty set"));
    while (at_ < in_.size() && peek() != ']') {
      const bool hyphen_is_plain = at_ == first || peek(1) == ']';
      if (peek() == '-' && !hyphen_is_plain) unsupported(place("'-' between sets"));
      const Item low = class_item();
      text += low.code_point ? class_literal(*low.code_point, negated) : low.members;
      if (peek() != '-' || peek(1) == ']') continue;
      ++at_;
      const Item high = class_item();
      if (!low.code_point || !high.code_point) unsupported(place("a range that ends in a set"));
      if (*low.code_point > *high.code_point) bad(place("an empty range"));
      text += '-';
      text += class_literal(*high.code_point, negated);
    }
    if (at_ == in_.size()) bad(place("a set is not closed"));
    ++at_;
    return text + "]";
  }

  Item class_item() {
    if (at_ == in_.size()) bad(place("a set is not closed"));
    if (peek() == '[') unsupported(place("a set in a set"));
    if (looking_at("&&")) unsupported(place("an intersection of sets"));
    if (peek() != '\\') return {next_code_point(in_, at_), {}};
    if (peek(1) == 'b') return at_ += 2, Item{0x08, {}};
    for (const SetEscape& set : kSetEscapes) {
      if (peek(1) == set.letter) return at_ += 2, Item{std::nullopt, set.members};
      if (peek(1) != std::toupper(set.letter)) continue;
      if (!set.others) unsupported(place("this escape in a set"));
      return at_ += 2, Item{std::nullopt, set.others};
    }
    return escaped_item();
  }

  std::string class_literal(char32_t c, bool negated) const {
    if (ignore_case_ && (c >= 0x80 || (negated && is_ascii_alnum(c))))
      unsupported(place("case folding of one character to several"));
    return literal(c);
  }

  std::string_view in_;
  std::size_t at_ = 0;
  std::string out_;
  std::optional<std::size_t> atom_;  // where in out_ the thing begins that a quantifier would repeat
  std::vector<Group> groups_;
  bool ignore_case_ = false;
  char last_letter_ = '\0';  // the literal just added, for pairs that fold together
};

}  // namespace

std::string pcre2_from_oniguruma(std::string_view pattern) {
  return Translation{pattern}.run();
}

}  // namespace mpk::tok
