#include "cli/pipeline/recipe.hpp"

#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk {
namespace {

std::int64_t parse_integer(std::string_view text, const std::string& context) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size())
    throw Error{ErrorKind::usage, fmt::format("{}: \"{}\" is not an integer", context, text)};
  return value;
}

}  // namespace

int checked_bits(std::int64_t bits) {
  if (bits == 4 || bits == 8) return static_cast<int>(bits);
  throw Error{ErrorKind::usage, fmt::format("{} bits: Marlin stores 4 or 8", bits)};
}

Scheme with_codes(Scheme scheme, int bits, bool asymmetric) {
  scheme.type = asymmetric ? unsigned_integer(bits) : symmetric_integer(bits);
  scheme.zero_points = asymmetric ? ZeroPoints::integer : ZeroPoints::implied;
  return scheme;
}

std::optional<GroupSize> group_size_from(std::int64_t value) {
  if (value == -1) return std::nullopt;
  if (value == 32 || value == 64 || value == 128) return GroupSize{value};
  throw Error{ErrorKind::usage,
              fmt::format("group size {}: Marlin has 32, 64, 128 and -1 (one per column)", value)};
}

std::regex parse_regex(const std::string& text, const std::string& option) {
  try {
    return std::regex{text, std::regex::ECMAScript | std::regex::optimize};
  } catch (const std::regex_error& e) {
    throw Error{ErrorKind::usage,
                fmt::format("{} '{}': not a regular expression ({})", option, text, e.what())};
  }
}

LayerOverride parse_layer_override(const std::string& text) {
  const std::string context = fmt::format("--layer '{}'", text);
  const auto equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0)
    throw Error{ErrorKind::usage, context + ": expected REGEX=bits:8,group:64,asymmetric:1"};
  LayerOverride result{text, parse_regex(text.substr(0, equals), "--layer"), {}, {}, {}};
  std::string_view rest = std::string_view{text}.substr(equals + 1);
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const auto colon = item.find(':');
    const std::string_view key = item.substr(0, colon);
    if (colon == std::string_view::npos || (key != "bits" && key != "group" && key != "asymmetric"))
      throw Error{ErrorKind::usage,
                  fmt::format("{}: \"{}\" is none of bits:N, group:N, asymmetric:0 or 1", context, item)};
    const std::int64_t value = parse_integer(item.substr(colon + 1), context);
    within(context, [&] {
      if (key == "bits")
        result.bits = checked_bits(value);
      else if (key == "group")
        result.group_size = group_size_from(value);
      else if (value == 0 || value == 1)
        result.asymmetric = value == 1;
      else
        throw Error{ErrorKind::usage, fmt::format("asymmetric:{} is neither 0 nor 1", value)};
    });
  }
  if (!result.bits && !result.asymmetric && !result.group_size)
    throw Error{ErrorKind::usage, context + ": says neither bits nor group nor asymmetric"};
  return result;
}

std::optional<Scheme> Recipe::scheme_of(const std::string& module) const {
  for (const auto& pattern : ignore)
    if (std::regex_search(module, pattern)) return std::nullopt;
  Scheme result = scheme;
  for (const auto& row : overrides)
    if (std::regex_search(module, row.pattern)) {
      if (row.bits || row.asymmetric)
        result = with_codes(result, row.bits.value_or(result.type.bits),
                            row.asymmetric.value_or(result.zero_points == ZeroPoints::integer));
      if (row.group_size) result.group_size = *row.group_size;
    }
  return result;
}

}  // namespace mpk
