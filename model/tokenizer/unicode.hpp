#pragma once
// The few facts about Unicode that tokenizers ask for. Text is UTF-8 that first_invalid_utf8() has passed.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace mpk::tok {

/// Bytes [begin, end) of a text.
struct Span {
  std::size_t begin = 0, end = 0;
  std::size_t size() const { return end - begin; }
  std::string_view of(std::string_view text) const { return text.substr(begin, end - begin); }
  friend bool operator==(const Span&, const Span&) = default;
};

/// Offset of the first byte that is not part of well-formed UTF-8 (surrogates and overlong forms are not).
std::optional<std::size_t> first_invalid_utf8(std::string_view text);
/// Throws Error{bad_input} that names `what` and the offset.
void require_utf8(std::string_view text, const std::string& what);

/// The code point at `position`, which moves behind it.
char32_t next_code_point(std::string_view text, std::size_t& position);
void append_utf8(std::string& text, char32_t code_point);
/// Where the code point that ends before `position` (> 0) begins.
std::size_t previous_boundary(std::string_view text, std::size_t position);

/// Unicode's White_Space property: what Rust's char::is_whitespace and Oniguruma's \s mean by a space.
bool is_white_space(char32_t code_point);
/// General categories Nd, Nl and No.
bool is_number(char32_t code_point);

enum class NormalForm { nfc, nfd, nfkc, nfkd };
std::string normal_form(std::string_view text, NormalForm form);
/// Each code point's full lower-case mapping, without regard to context (no final sigma).
std::string lower_case(std::string_view text);

}  // namespace mpk::tok
