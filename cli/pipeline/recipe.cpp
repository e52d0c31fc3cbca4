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

ScalarType symmetric_type(int bits) {
  if (bits == 4) return kU4B8;
  if (bits == 8) return kU8B128;
  throw Error{ErrorKind::usage, fmt::format("{} bits: Marlin stores 4 or 8", bits)};
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
    throw Error{ErrorKind::usage, context + ": expected REGEX=bits:8,group:64"};
  LayerOverride result{text, parse_regex(text.substr(0, equals), "--layer"), {}, {}};
  std::string_view rest = std::string_view{text}.substr(equals + 1);
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const auto colon = item.find(':');
    const std::string_view key = item.substr(0, colon);
    if (colon == std::string_view::npos || (key != "bits" && key != "group"))
      throw Error{ErrorKind::usage, fmt::format("{}: \"{}\" is neither bits:N nor group:N", context, item)};
    const std::int64_t value = parse_integer(item.substr(colon + 1), context);
    if (key == "bits")
      result.type = within(context, [&] { return symmetric_type(static_cast<int>(value)); });
    else
      result.group_size = within(context, [&] { return group_size_from(value); });
  }
  if (!result.type && !result.group_size)
    throw Error{ErrorKind::usage, context + ": says neither bits nor group"};
  return result;
}

std::optional<Scheme> Recipe::scheme_of(const std::string& module) const {
  for (const auto& pattern : ignore)
    if (std::regex_search(module, pattern)) return std::nullopt;
  Scheme result = scheme;
  for (const auto& row : overrides)
    if (std::regex_search(module, row.pattern)) {
      if (row.type) result.type = *row.type;
      if (row.group_size) result.group_size = *row.group_size;
    }
  return result;
}

}  // namespace mpk
