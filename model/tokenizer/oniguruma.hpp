#pragma once
// Oniguruma's Ruby syntax, in which tokenizer.json files write their patterns, restated for PCRE2.

#include <string>
#include <string_view>

namespace mpk::tok {

/// A PCRE2 pattern (UTF, UCP, MULTILINE, newline LF) that matches exactly what Oniguruma would match.
/// The two read most of a pattern alike; what real tokenizers use and they do not read alike is rewritten:
///
///     pattern        Oniguruma (Ruby)                        PCRE2
///     \s             Unicode White_Space                     also U+180E
///     \w \b          Alphabetic, M, Nd, Pc                   L, N and "_"
///     \h             hexadecimal digit                       horizontal space
///     \v             U+000B                                  every vertical space
///     x{2,3}+        (?:x{2,3})+                             possessive
///     x{2}?          (?:x{2})?                               x{2}
///     x{,3}          x{0,3}                                  the text "{,3}"
///     \p{Han}        Script                                  Script_Extensions
///     \u3000         a code point                            an error
///
/// Nothing is passed on that is not known to mean the same: sets in sets and "&&", POSIX brackets,
/// back-references, options other than i, \K \G \R \X and the like are Error{unsupported} that quotes the
/// place. So is folding of one character to several (under (?i), Oniguruma's "ss" also matches U+00DF).
///
/// Compared for every code point (\s \w \d, general categories, Han, Hiragana, (?i:s) and its like): the sets
/// differ only in characters that one of the two libraries does not know yet. PCRE2 10.42 has Unicode 14;
/// tokenizers 0.23, Unicode 16 or later.
std::string pcre2_from_oniguruma(std::string_view pattern);

}  // namespace mpk::tok
