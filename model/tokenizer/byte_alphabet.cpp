#include "model/tokenizer/byte_alphabet.hpp"

#include <array>

namespace mpk::tok {
namespace {

struct Letter {
  char utf8[2];
  int length;
};

constexpr std::array<Letter, 256> kLetters = [] {
  std::array<Letter, 256> letters{};
  int next_spare = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    const int code_point = printable ? byte : next_spare++;
    Letter& letter = letters[static_cast<std::size_t>(byte)];
    if (code_point < 0x80)
      letter = {{static_cast<char>(code_point), 0}, 1};
    else
      letter = {{static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))},
                2};
  }
  return letters;
}();

}  // namespace

void append_byte_letters(std::string& out, std::string_view bytes) {
  for (const char byte : bytes) {
    const Letter& letter = kLetters[static_cast<unsigned char>(byte)];
    out.append(letter.utf8, static_cast<std::size_t>(letter.length));
  }
}

}  // namespace mpk::tok
