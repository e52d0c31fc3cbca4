#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/tokenizer/regex.hpp"

#include <fmt/format.h>
#include <pcre2.h>

#include "model/tokenizer/json_spec.hpp"
#include "model/tokenizer/oniguruma.hpp"
#include "packer/io/printable.hpp"

namespace mpk::tok {
namespace {

template <auto kFree>
struct Free {
  template <class T>
  void operator()(T* handle) const {
    kFree(handle);
  }
};
using CodePtr = std::unique_ptr<pcre2_code, Free<pcre2_code_free>>;
using CompileContextPtr = std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context_free>>;
using MatchContextPtr = std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>>;
using MatchDataPtr = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>>;
using JitStackPtr = std::unique_ptr<pcre2_jit_stack, Free<pcre2_jit_stack_free>>;

constexpr std::size_t kLongestPattern = 1 << 16;
// Generous for texts of megabytes (a run of n spaces costs some n steps), finite for a hostile pattern.
constexpr std::uint32_t kMatchLimit = 200'000'000;
constexpr std::size_t kJitStackStart = 64 << 10, kJitStackLimit = 32 << 20;

PCRE2_SPTR units(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data());
}

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Regex::Code {
  std::string shown;  // as the tokenizer.json has it, for messages
  CodePtr code;
};

Regex::Regex(std::string_view shown, std::string_view pcre2, unsigned options) {
  const CompileContextPtr context{pcre2_compile_context_create(nullptr)};
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);  // the default depends on how PCRE2 was built
  int error = 0;
  PCRE2_SIZE offset = 0;
  CodePtr code{
      pcre2_compile(units(pcre2), pcre2.size(), options | PCRE2_UTF, &error, &offset, context.get())};
  if (!code) bad(fmt::format("pattern {}: {}", in_quotes(shown), message_of(error)));
  pcre2_jit_compile(code.get(),
                    PCRE2_JIT_COMPLETE);  // where there is no JIT, the interpreter matches the same
  code_ = std::make_shared<const Code>(Code{std::string{shown}, std::move(code)});
}

Regex Regex::pattern(std::string_view oniguruma) {
  if (oniguruma.size() > kLongestPattern)
    bad(fmt::format("pattern {} has {} bytes", in_quotes(oniguruma), oniguruma.size()));
  return {oniguruma, pcre2_from_oniguruma(oniguruma), PCRE2_UCP | PCRE2_MULTILINE};
}

Regex Regex::literal(std::string_view text) {
  if (text.size() > kLongestPattern)
    bad(fmt::format("pattern {} has {} bytes", in_quotes(text), text.size()));
  return {text, text, PCRE2_LITERAL};
}

Regex Regex::word_character() {
  return {"\\w", R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}])", PCRE2_UCP};
}

Regex Regex::from_json(const Json& pattern) {
  if (pattern.is_object() && pattern.size() == 1) {
    if (pattern.contains("Regex")) return Regex::pattern(string_member(pattern, "Regex"));
    if (pattern.contains("String")) return Regex::literal(string_member(pattern, "String"));
  }
  bad(R"(a pattern is {"Regex": "..."} or {"String": "..."})");
}

bool Regex::can_be_empty() const {
  std::uint32_t answer = 0;
  pcre2_pattern_info(code_->code.get(), PCRE2_INFO_MATCHEMPTY, &answer);
  return answer != 0;
}

std::vector<Span> Regex::find_all(std::string_view text) const {
  const MatchDataPtr match{pcre2_match_data_create(1, nullptr)};
  const MatchContextPtr context{pcre2_match_context_create(nullptr)};
  pcre2_set_match_limit(context.get(), kMatchLimit);
  JitStackPtr stack;  // most texts do with the 32 KB that PCRE2 takes from the machine's stack

  std::vector<Span> found;
  for (std::size_t from = 0; from <= text.size();) {
    // The text was checked once, as a whole: checking again at each match would be quadratic.
    int result = pcre2_match(code_->code.get(), units(text), text.size(), from, PCRE2_NO_UTF_CHECK,
                             match.get(), context.get());
    if (result == PCRE2_ERROR_JIT_STACKLIMIT && !stack) {
      stack.reset(pcre2_jit_stack_create(kJitStackStart, kJitStackLimit, nullptr));
      if (stack) {
        pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
        continue;
      }
    }
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0)
      unsupported(fmt::format("pattern {} gives up at byte {} of a text of {}: {}", in_quotes(code_->shown),
                              from, text.size(), message_of(result)));
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.get());
    const Span span{bounds[0], bounds[1]};
    const bool empty_behind_another = span.size() == 0 && !found.empty() && found.back().end == span.begin;
    from = span.end;
    if (!empty_behind_another)
      found.push_back(span);
    else if (from < text.size())
      next_code_point(text, from);
    else
      break;
  }
  return found;
}

}  // namespace mpk::tok
