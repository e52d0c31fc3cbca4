#define PCRE2_CODE_UNIT_WIDTH 8
#include "packer/module_pattern.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <pcre2.h>

#include "packer/format/error.hpp"
#include "packer/io/printable.hpp"

namespace mpk {
namespace {

template <auto kFree>
struct Free {
  template <class T>
  void operator()(T* handle) const {
    kFree(handle);
  }
};
using CodePtr = std::unique_ptr<pcre2_code, Free<pcre2_code_free>>;
using MatchContextPtr = std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>>;
using MatchDataPtr = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>>;

constexpr std::size_t kLongestPattern = 1 << 14;
// Names have a hundred characters: sensible patterns need some hundred steps.
constexpr std::uint32_t kMatchLimit = 100'000, kHeapLimitKiB = 8 << 10;

PCRE2_SPTR units(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data());
}

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

/// The text that a pattern such as ^model\.layers\.0\.mlp$ stands for; nullopt: it is more than that.
std::optional<std::string> literal_of(std::string_view pattern) {
  if (!pattern.ends_with('$')) return std::nullopt;
  pattern.remove_suffix(1);
  if (pattern.starts_with('^')) pattern.remove_prefix(1);
  constexpr std::string_view kSpecial = R"(.^$*+?()[]{}|\)";
  std::string text;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') {
      if (++i == pattern.size() || kSpecial.find(pattern[i]) == std::string_view::npos) return std::nullopt;
    } else if (kSpecial.find(pattern[i]) != std::string_view::npos) {
      return std::nullopt;
    }
    text += pattern[i];
  }
  return text;
}

/// Two fingers: after a mismatch the last * takes one character more.
bool matches_wildcard(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0;
  std::optional<std::size_t> star;
  std::size_t taken = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star) {
      p = *star + 1;
      n = ++taken;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace

struct ModulePattern::Code {
  CodePtr code;
};

ModulePattern ModulePattern::every() {
  return {Kind::every, ""};
}
ModulePattern ModulePattern::exactly(std::string name) {
  return {Kind::exact, std::move(name)};
}
ModulePattern ModulePattern::ending(std::string name) {
  return {Kind::ending, std::move(name)};
}
ModulePattern ModulePattern::fragment(std::string text) {
  return {Kind::fragment, std::move(text)};
}
ModulePattern ModulePattern::wildcard(std::string text) {
  return {Kind::wildcard, std::move(text)};
}

ModulePattern ModulePattern::regex(const std::string& pattern) {
  if (auto literal = literal_of(pattern)) return exactly(std::move(*literal));
  const auto fail = [&](const std::string& why) {
    throw Error{ErrorKind::bad_input, fmt::format("pattern {}: {}", in_quotes(pattern), why)};
  };
  if (pattern.size() > kLongestPattern) fail(fmt::format("it has {} bytes", pattern.size()));
  int error = 0;
  PCRE2_SIZE offset = 0;
  CodePtr code{pcre2_compile(units(pattern), pattern.size(),
                             PCRE2_ANCHORED | PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error,
                             &offset, nullptr)};
  if (!code) fail(fmt::format("{} (at byte {})", message_of(error), offset));
  ModulePattern result{Kind::regex, pattern};
  result.code_ = std::make_shared<const Code>(Code{std::move(code)});
  return result;
}

bool ModulePattern::matches(std::string_view module) const {
  switch (kind_) {
    case Kind::every:
      return true;
    case Kind::exact:
      return module == text_;
    case Kind::ending:
      return module.ends_with(text_) &&
             (module.size() == text_.size() || module[module.size() - text_.size() - 1] == '.');
    case Kind::fragment:
      return module.find(text_) != std::string_view::npos;
    case Kind::wildcard:
      return matches_wildcard(text_, module);
    case Kind::regex:
      break;
  }
  const MatchDataPtr match{pcre2_match_data_create(1, nullptr)};
  const MatchContextPtr context{pcre2_match_context_create(nullptr)};
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKiB);
  const int result =
      pcre2_match(code_->code.get(), units(module), module.size(), 0, 0, match.get(), context.get());
  if (result >= 0) return true;
  if (result == PCRE2_ERROR_NOMATCH) return false;
  throw Error{ErrorKind::unsupported, fmt::format("pattern {} gives up on module {}: {}", in_quotes(text_),
                                                  in_quotes(module), message_of(result))};
}

void PatternSet::add(ModulePattern pattern) {
  if (const std::string* module = pattern.only_module())
    single_[*module].push_back(size_);
  else
    others_.push_back({std::move(pattern), size_});
  ++size_;
}

bool PatternSet::any(const std::string& module) const {
  return single_.contains(module) ||
         std::ranges::any_of(others_, [&](const Numbered& other) { return other.pattern.matches(module); });
}

std::vector<std::size_t> PatternSet::matching(const std::string& module) const {
  std::vector<std::size_t> numbers;
  if (const auto found = single_.find(module); found != single_.end()) numbers = found->second;
  for (const auto& [pattern, number] : others_)
    if (pattern.matches(module)) numbers.push_back(number);
  std::ranges::sort(numbers);
  return numbers;
}

}  // namespace mpk
