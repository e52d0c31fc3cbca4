#pragma once
// What oniguruma.cpp looks up: escapes and properties, and what PCRE2 calls them.

#include <string_view>

namespace mpk::tok {

// clang-format off
// Contents of PCRE2 character classes.
inline constexpr const char* kSpace =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
inline constexpr const char* kNotSpace =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
    R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{d7ff}\x{e000}-\x{10ffff})";
// Oniguruma also counts the Latin-1 superscripts and fractions as word characters, though no others.
inline constexpr const char* kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";

struct SetEscape {
  char letter;
  const char* members;
  const char* others;  // null: cannot be written inside a larger class
};
inline constexpr SetEscape kSetEscapes[] = {
    {'s', kSpace, kNotSpace},
    {'d', R"(\p{Nd})", R"(\P{Nd})"},
    {'w', kWord, nullptr},
    {'h', "0-9A-Fa-f", nullptr},
};

struct LiteralEscape {
  char letter;
  char32_t code_point;
};
inline constexpr LiteralEscape kLiteralEscapes[] = {
    {'t', 0x09}, {'n', 0x0A}, {'v', 0x0B}, {'f', 0x0C}, {'r', 0x0D}, {'a', 0x07}, {'e', 0x1B},
};

// Properties by their names in lower case without "_", "-" and spaces.
struct Property {
  const char* name;
  const char* pcre2;
};
inline constexpr Property kProperties[] = {
    // general categories
    {"l", "L"},          {"letter", "L"},     {"lu", "Lu"},        {"ll", "Ll"},        {"lt", "Lt"},
    {"lm", "Lm"},        {"lo", "Lo"},        {"m", "M"},          {"mark", "M"},       {"mn", "Mn"},
    {"mc", "Mc"},        {"me", "Me"},        {"n", "N"},          {"number", "N"},     {"nd", "Nd"},
    {"nl", "Nl"},        {"no", "No"},        {"p", "P"},          {"punctuation", "P"}, {"pc", "Pc"},
    {"pd", "Pd"},        {"ps", "Ps"},        {"pe", "Pe"},        {"pi", "Pi"},        {"pf", "Pf"},
    {"po", "Po"},        {"s", "S"},          {"symbol", "S"},     {"sm", "Sm"},        {"sc", "Sc"},
    {"sk", "Sk"},        {"so", "So"},        {"z", "Z"},          {"separator", "Z"},  {"zs", "Zs"},
    {"zl", "Zl"},        {"zp", "Zp"},        {"c", "C"},          {"cc", "Cc"},        {"cf", "Cf"},
    // scripts; without "sc:", PCRE2 takes Script_Extensions
    {"arabic", "sc:Arabic"},         {"armenian", "sc:Armenian"},     {"bengali", "sc:Bengali"},
    {"bopomofo", "sc:Bopomofo"},     {"cyrillic", "sc:Cyrillic"},     {"devanagari", "sc:Devanagari"},
    {"georgian", "sc:Georgian"},     {"greek", "sc:Greek"},           {"gujarati", "sc:Gujarati"},
    {"han", "sc:Han"},               {"hangul", "sc:Hangul"},         {"hebrew", "sc:Hebrew"},
    {"hiragana", "sc:Hiragana"},     {"kannada", "sc:Kannada"},       {"katakana", "sc:Katakana"},
    {"khmer", "sc:Khmer"},           {"lao", "sc:Lao"},               {"latin", "sc:Latin"},
    {"malayalam", "sc:Malayalam"},   {"myanmar", "sc:Myanmar"},       {"tamil", "sc:Tamil"},
    {"telugu", "sc:Telugu"},         {"thai", "sc:Thai"},             {"tibetan", "sc:Tibetan"},
};

// Pairs of letters that some single character folds to.
inline constexpr std::string_view kFoldedPairs[] = {"ss", "ff", "fi", "fl", "st"};
// clang-format on

}  // namespace mpk::tok
