#pragma once
// What one stored code means.

#include <array>
#include <optional>
#include <string_view>

namespace mpk {

/// weight = (code - bias) * scale with code < 2^bits. `bias` is the zero point fixed by the type.
struct ScalarType {
  int bits = 4;
  int bias = 8;
  constexpr int pack_factor() const { return 32 / bits; }  ///< codes per 32-bit word
  constexpr int max_code() const { return (1 << bits) - 1; }
  friend constexpr bool operator==(ScalarType, ScalarType) = default;
};

inline constexpr ScalarType kU4B8{4, 8};
inline constexpr ScalarType kU8B128{8, 128};

struct NamedScalarType {
  const char* name;  ///< the field's name for it, as it stands in manifests
  ScalarType type;
};
inline constexpr std::array kScalarTypes{NamedScalarType{"u4b8", kU4B8}, NamedScalarType{"u8b128", kU8B128}};

constexpr std::optional<ScalarType> scalar_type_named(std::string_view name) {
  for (const auto& row : kScalarTypes)
    if (name == row.name) return row.type;
  return std::nullopt;
}
constexpr const char* name_of(ScalarType type) {
  for (const auto& row : kScalarTypes)
    if (type == row.type) return row.name;
  return "?";
}

}  // namespace mpk
