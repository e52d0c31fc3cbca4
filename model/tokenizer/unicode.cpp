#include "model/tokenizer/unicode.hpp"

#include <cstdlib>
#include <memory>

#include <fmt/format.h>
#include <utf8proc.h>

#include "model/tokenizer/json_spec.hpp"

namespace mpk::tok {
namespace {

const utf8proc_uint8_t* bytes(std::string_view text) {
  return reinterpret_cast<const utf8proc_uint8_t*>(text.data());
}

bool is_ascii(std::string_view text) {
  for (const char c : text)
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  return true;
}

int flags_of(NormalForm form) {
  switch (form) {
    case NormalForm::nfc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case NormalForm::nfd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case NormalForm::nfkc:
      return UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_COMPOSE;
    case NormalForm::nfkd:
      return UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE;
  }
  std::abort();  // not a NormalForm
}

}  // namespace

std::optional<std::size_t> first_invalid_utf8(std::string_view text) {
  std::size_t position = 0;
  while (position < text.size()) {
    if (static_cast<unsigned char>(text[position]) < 0x80) {
      ++position;
      continue;
    }
    utf8proc_int32_t code_point;
    const auto length = utf8proc_iterate(bytes(text) + position,
                                         static_cast<utf8proc_ssize_t>(text.size() - position), &code_point);
    if (length <= 0) return position;
    position += static_cast<std::size_t>(length);
  }
  return std::nullopt;
}

void require_utf8(std::string_view text, const std::string& what) {
  if (const auto offset = first_invalid_utf8(text))
    bad(fmt::format("{} is not UTF-8: invalid byte 0x{:02x} at offset {}", what,
                    static_cast<unsigned char>(text[*offset]), *offset));
}

char32_t next_code_point(std::string_view text, std::size_t& position) {
  const auto first = static_cast<unsigned char>(text[position]);
  if (first < 0x80) {
    ++position;
    return first;
  }
  utf8proc_int32_t code_point;
  position += static_cast<std::size_t>(utf8proc_iterate(
      bytes(text) + position, static_cast<utf8proc_ssize_t>(text.size() - position), &code_point));
  return static_cast<char32_t>(code_point);
}

void append_utf8(std::string& text, char32_t code_point) {
  utf8proc_uint8_t buffer[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), buffer);
  text.append(reinterpret_cast<const char*>(buffer), static_cast<std::size_t>(length));
}

std::size_t previous_boundary(std::string_view text, std::size_t position) {
  do --position;
  while ((static_cast<unsigned char>(text[position]) & 0xC0) == 0x80);
  return position;
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_number(char32_t code_point) {
  if (code_point < 0x80) return code_point >= '0' && code_point <= '9';
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return true;
    default:
      return false;
  }
}

std::string normal_form(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return std::string{text};  // every form leaves ASCII alone
  utf8proc_uint8_t* raw = nullptr;
  const auto length = utf8proc_map(bytes(text), static_cast<utf8proc_ssize_t>(text.size()), &raw,
                                   static_cast<utf8proc_option_t>(flags_of(form)));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> result{raw, &std::free};
  if (length < 0) bad(fmt::format("Unicode normalization failed: {}", utf8proc_errmsg(length)));
  return {reinterpret_cast<const char*>(result.get()), static_cast<std::size_t>(length)};
}

std::string lower_case(std::string_view text) {
  std::string lowered;
  lowered.reserve(text.size());
  for (std::size_t position = 0; position < text.size();) {
    const char32_t c = next_code_point(text, position);
    // utf8proc has the simple mappings; the one full lower-case mapping that differs without context is
    // U+0130.
    if (c == 0x130)
      lowered += "i\xCC\x87";
    else
      append_utf8(lowered, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
  return lowered;
}

}  // namespace mpk::tok
