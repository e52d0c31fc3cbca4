#pragma once
// Text from a file, fit for an error message.

#include <string>
#include <string_view>

namespace mpk {

/// Control characters become \xNN, so that a file cannot drive the terminal; long text is cut.
inline std::string printable(std::string_view text, std::size_t max_bytes = 240) {
  std::size_t length = text.size();
  if (length > max_bytes) {
    length = max_bytes;
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xc0u) == 0x80u)
      --length;  // whole UTF-8
  }
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : text.substr(0, length)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  return length < text.size() ? out + "..." : out;
}

/// The same between double quotes.
inline std::string in_quotes(std::string_view text) {
  return '"' + printable(text) + '"';
}

}  // namespace mpk
