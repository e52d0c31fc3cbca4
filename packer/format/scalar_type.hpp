#pragma once
// What one stored code means.

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace mpk {

enum class Encoding : std::uint8_t {
  integer,
  e2m1,  ///< 4 bits: sign, 2 exponent, 1 mantissa; 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives
  e4m3,  ///< 8 bits: sign, 4 exponent, 3 mantissa, bias 7, no infinity ("fn")
};

/// weight = (value(code) - zero) * scale with code < 2^bits. `bias` is the zero fixed by the type; types
/// whose zeros are stored per group have bias 0, as have the floating-point ones.
struct ScalarType {
  int bits = 4;
  int bias = 8;
  Encoding encoding = Encoding::integer;
  constexpr int pack_factor() const { return 32 / bits; }  ///< codes per 32-bit word
  constexpr int max_code() const { return (1 << bits) - 1; }
  constexpr bool is_integer() const { return encoding == Encoding::integer; }
  friend constexpr bool operator==(ScalarType, ScalarType) = default;
};

/// b-bit integers whose zero is 2^(b-1), and those whose zeros are stored.
constexpr ScalarType symmetric_integer(int bits) {
  return {bits, 1 << (bits - 1)};
}
constexpr ScalarType unsigned_integer(int bits) {
  return {bits, 0};
}

inline constexpr ScalarType kU4B8 = symmetric_integer(4), kU8B128 = symmetric_integer(8);
inline constexpr ScalarType kU4 = unsigned_integer(4), kU8 = unsigned_integer(8);
inline constexpr ScalarType kE2M1{4, 0, Encoding::e2m1}, kE4M3{8, 0, Encoding::e4m3};

struct NamedScalarType {
  const char* name;  ///< the field's name for it, as it stands in manifests
  ScalarType type;
};
inline constexpr std::array kScalarTypes{
    NamedScalarType{"u4b8", kU4B8},
    NamedScalarType{"u8b128", kU8B128},
    NamedScalarType{"u4", kU4},
    NamedScalarType{"u8", kU8},
    NamedScalarType{"e2m1", kE2M1},
    NamedScalarType{"e4m3", kE4M3},
    NamedScalarType{"u2b2", symmetric_integer(2)},
    NamedScalarType{"u3b4", symmetric_integer(3)},
    NamedScalarType{"u5b16", symmetric_integer(5)},
    NamedScalarType{"u6b32", symmetric_integer(6)},
    NamedScalarType{"u7b64", symmetric_integer(7)},
    NamedScalarType{"u2", unsigned_integer(2)},
    NamedScalarType{"u3", unsigned_integer(3)},
    NamedScalarType{"u5", unsigned_integer(5)},
    NamedScalarType{"u6", unsigned_integer(6)},
    NamedScalarType{"u7", unsigned_integer(7)},
};

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
