#pragma once
// How configurations name modules: whole names, regular expressions, wildcards, fragments.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mpk {

class ModulePattern {
 public:
  static ModulePattern every();
  static ModulePattern exactly(std::string name);
  /// The name or its last components: "q_proj" and "self_attn.q_proj" are those of
  /// "layers.0.self_attn.q_proj".
  static ModulePattern ending(std::string name);
  /// The name holds this text.
  static ModulePattern fragment(std::string text);
  /// The shell's * and ?; they pass dots.
  static ModulePattern wildcard(std::string text);
  /// Matched from the name's first character, as Python's re.match does; in PCRE2's syntax, which holds what
  /// such patterns use of Python's. Throws Error{bad_input} for what is no regular expression.
  static ModulePattern regex(const std::string& pattern);

  /// Throws Error{unsupported} for a regular expression that backtracks beyond any use.
  bool matches(std::string_view module) const;

  /// The one module that can match, or nullptr: the fast way for thousands of rules of one module each.
  const std::string* only_module() const { return kind_ == Kind::exact ? &text_ : nullptr; }

 private:
  enum class Kind { every, exact, ending, fragment, wildcard, regex };
  struct Code;
  ModulePattern(Kind kind, std::string text) : kind_{kind}, text_{std::move(text)} {}
  Kind kind_;
  std::string text_;
  std::shared_ptr<const Code> code_;
};

/// Patterns by number, in the order in which they were added.
class PatternSet {
 public:
  void add(ModulePattern pattern);
  std::size_t size() const { return size_; }
  bool any(const std::string& module) const;
  /// Ascending.
  std::vector<std::size_t> matching(const std::string& module) const;

 private:
  struct Numbered {
    ModulePattern pattern;
    std::size_t number;
  };
  std::unordered_map<std::string, std::vector<std::size_t>> single_;
  std::vector<Numbered> others_;
  std::size_t size_ = 0;
};

}  // namespace mpk
