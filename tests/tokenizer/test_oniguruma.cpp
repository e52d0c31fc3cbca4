// Where Oniguruma and PCRE2 read a pattern differently, we match as Oniguruma does or refuse.
// (Golden cases named "pattern ..." compare whole tokenizers; these say which construct is meant.)

#include <string>
#include <vector>

#include "model/tokenizer/regex.hpp"
#include "tests/support/catch.hpp"
#include "tests/tokenizer/tokenizer_files.hpp"

namespace mpk::test {
namespace {

using Matches = std::vector<std::string>;

Matches matches(const std::string& pattern, const std::string& text) {
  Matches found;
  for (const tok::Span& span : tok::Regex::pattern(pattern).find_all(text)) found.emplace_back(span.of(text));
  return found;
}

TEST_CASE("patterns mean what they mean to Oniguruma", "[tokenizer]") {
  CHECK(matches(R"(\s)", "\u00a0\u3000\u180e\u0085") == Matches{"\u00a0", "\u3000", "\u0085"});
  CHECK(matches(R"([^\S ]+)", " \t\u180e\u2028") == Matches{"\t", "\u2028"});
  CHECK(matches(R"(\w+)", "cafe\u0301 \u00b2 \u203f \u2460") == Matches{"cafe\u0301", "\u00b2", "\u203f"});
  CHECK(matches(R"(\be)", "e\u0301 \u0301e e") == Matches{"e", "e"});
  CHECK(matches(R"(\h+)", "fade in 1G") == Matches{"fade", "1"});
  CHECK(matches(R"(\v)", "\n\v\r") == Matches{"\v"});
  CHECK(matches(R"(\d{1,3}+)", "1234567 12") == Matches{"1234567", "12"});
  CHECK(matches(R"(x{2}?)", "xxx") == Matches{"xx", ""});
  CHECK(matches(R"(x{,2})", "xxx") == Matches{"xx", "x"});
  CHECK(matches(R"(x{,})", "xx{,}") == Matches{"x{,}"});
  CHECK(matches(R"(a++a)", "aaa").empty());
  CHECK(matches(R"(^b$)", "b\nab\nb\r\nb") == Matches{"b", "b"});
  CHECK(matches(R"(.+)", "a\r\u2028b\nc") == Matches{"a\r\u2028b", "c"});
  CHECK(matches(R"(\p{Han}+)", "\u6f22\u30fc\u3002\u5b57") ==
        Matches{"\u6f22", "\u5b57"});  // not their extensions
  CHECK(matches(R"((?i:'s)|x)", "'S'\u017fX") == Matches{"'S", "'\u017f"});
  CHECK(matches(R"([a\-z\]]+)", "a-z]b") == Matches{"a-z]"});
  CHECK(matches(R"(\u3042|\x41)", "\u3042A") == Matches{"\u3042", "A"});
}

TEST_CASE("empty matches stand between characters, not behind matches", "[tokenizer]") {
  CHECK(matches("", "aé") == Matches{"", "", ""});
  CHECK(matches("x*", "axb") == Matches{"", "x", ""});
  CHECK(matches("(?=b)", "abb") == Matches{"", ""});
}

TEST_CASE("a pattern that could mean something else is refused", "[tokenizer]") {
  const std::string unsupported = GENERATE(
      R"([a-z&&[^aeiou]])", R"([[:alpha:]])", R"([a[bc]])", R"((a)\1)", R"(\k<n>)", R"((?<n>a))", R"(\Ka)",
      R"(\G)", R"(\R)", R"(\X)", R"((?m:a))", R"((?x:a))", R"(a(?i)b)", R"((?(1)a))", R"(\p{Emoji})",
      R"(\p{InThai})", R"(\pL)", R"(\xE3)", R"([\w-z])", R"([a-z-9])", R"([\W])", R"(a**)", R"(a{2}{3})",
      R"((?i:ss))", R"((?i:stop))", "(?i:stra\u00dfe)", R"((?i:\p{Lu}))", R"(\Qa\E)", R"((?#a))", R"(\01)");
  CAPTURE(unsupported);
  const auto error = error_of([&] { tok::Regex::pattern(unsupported); });
  REQUIRE(error);
  CHECK(error->kind() == ErrorKind::unsupported);
}

TEST_CASE("a malformed pattern is refused", "[tokenizer]") {
  const std::string malformed =
      GENERATE("(", ")", "[", "[]", "[a", "a\\", "[z-a]", "*a", "(?:*)", "a{3,2}", "|+", R"(\x{110000})",
               R"(\x{d800})", R"(\x{)", R"(\u12)", "(?", "[\\", "(?=a)*", "a{99999999999}");
  CAPTURE(malformed);
  REQUIRE(error_of([&] { tok::Regex::pattern(malformed); }));
}

TEST_CASE("backtracking comes to an end", "[tokenizer]") {
  const std::string text(40, 'a');
  const auto error = error_of([&] { matches("(?:a|a)+b|(?:a+)+c", text); });
  REQUIRE((!error || error->kind() == ErrorKind::unsupported));
  // A run of spaces as long as a book is harmless for the patterns that models use.
  REQUIRE(matches(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", std::string(1'000'000, ' ') + "x").size() == 2);
}

}  // namespace
}  // namespace mpk::test
