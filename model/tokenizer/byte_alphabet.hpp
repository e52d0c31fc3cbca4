#pragma once
// GPT-2's alphabet: a visible letter for every byte, so that vocabularies of bytes can be written as text.

#include <string>
#include <string_view>

namespace mpk::tok {

/// Appends the letter of each byte: printable Latin-1 stands for itself, the other 68 bytes for U+0100
/// onwards.
void append_byte_letters(std::string& out, std::string_view bytes);

}  // namespace mpk::tok
