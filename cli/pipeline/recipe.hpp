#pragma once
// Which layer gets which scheme: the command line's answer, resolved per module before any work starts.

#include <map>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// One --layer 'REGEX=bits:8,group:64,asymmetric:1'.
struct LayerOverride {
  std::string text;  ///< as given, for messages and the manifest
  std::regex pattern;
  std::optional<int> bits;
  std::optional<bool> asymmetric;  ///< codes with zero points
  std::optional<std::optional<GroupSize>> group_size;
};

/// Throws Error{usage} that quotes the offending part.
LayerOverride parse_layer_override(const std::string& text);
std::regex parse_regex(const std::string& text, const std::string& option);

/// Throws Error{usage} for anything but 4 and 8.
int checked_bits(std::int64_t bits);
/// `scheme` with codes of so many bits, symmetric or with integer zero points.
Scheme with_codes(Scheme scheme, int bits, bool asymmetric);
/// -1: one scale per column.
std::optional<GroupSize> group_size_from(std::int64_t value);

struct Recipe {
  Scheme scheme;
  std::vector<std::string> ignore_text;
  std::vector<std::regex> ignore;
  std::vector<LayerOverride> overrides;

  /// The module's scheme, or nullopt if it stays in floating point. The last matching override wins; patterns
  /// are searched in the module name.
  std::optional<Scheme> scheme_of(const std::string& module) const;
};

}  // namespace mpk
