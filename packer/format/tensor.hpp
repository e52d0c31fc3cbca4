#pragma once
// Element types of the safetensors format and a borrowed, typed block of bytes.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mpk {

/// In the order in which a canonical safetensors file stores them (FORMAT.md, "Container").
enum class DType : std::uint8_t {
  U64,
  I64,
  F64,
  C64,
  F32,
  U32,
  I32,
  BF16,
  F16,
  U16,
  I16,
  F8_E5M2FNUZ,
  F8_E4M3FNUZ,
  F8_E8M0,
  F8_E4M3,
  F8_E5M2,
  I8,
  U8,
  F6_E3M2,
  F6_E2M3,
  F4,
  BOOL,
};

struct DTypeInfo {
  DType dtype;
  const char* name;  ///< spelling in a safetensors header
  int bits;          ///< per element
};
inline constexpr std::array kDTypes{
    DTypeInfo{DType::U64, "U64", 64},
    DTypeInfo{DType::I64, "I64", 64},
    DTypeInfo{DType::F64, "F64", 64},
    DTypeInfo{DType::C64, "C64", 64},
    DTypeInfo{DType::F32, "F32", 32},
    DTypeInfo{DType::U32, "U32", 32},
    DTypeInfo{DType::I32, "I32", 32},
    DTypeInfo{DType::BF16, "BF16", 16},
    DTypeInfo{DType::F16, "F16", 16},
    DTypeInfo{DType::U16, "U16", 16},
    DTypeInfo{DType::I16, "I16", 16},
    DTypeInfo{DType::F8_E5M2FNUZ, "F8_E5M2FNUZ", 8},
    DTypeInfo{DType::F8_E4M3FNUZ, "F8_E4M3FNUZ", 8},
    DTypeInfo{DType::F8_E8M0, "F8_E8M0", 8},
    DTypeInfo{DType::F8_E4M3, "F8_E4M3", 8},
    DTypeInfo{DType::F8_E5M2, "F8_E5M2", 8},
    DTypeInfo{DType::I8, "I8", 8},
    DTypeInfo{DType::U8, "U8", 8},
    DTypeInfo{DType::F6_E3M2, "F6_E3M2", 6},
    DTypeInfo{DType::F6_E2M3, "F6_E2M3", 6},
    DTypeInfo{DType::F4, "F4", 4},
    DTypeInfo{DType::BOOL, "BOOL", 8},
};

constexpr const DTypeInfo& info(DType dtype) {
  return kDTypes[static_cast<std::size_t>(dtype)];
}
constexpr std::optional<DType> dtype_named(std::string_view name) {
  for (const auto& row : kDTypes)
    if (name == row.name) return row.dtype;
  return std::nullopt;
}
static_assert(
    [] {
      for (std::size_t i = 0; i < kDTypes.size(); ++i)
        if (static_cast<std::size_t>(kDTypes[i].dtype) != i) return false;
      return true;
    }(),
    "kDTypes is indexed by DType");

using Shape = std::vector<std::int64_t>;

/// A tensor somebody else owns: C order, little-endian, `data.size()` = elements * bits / 8.
struct TensorView {
  DType dtype = DType::F32;
  Shape shape;
  std::span<const std::byte> data;
};

/// The same, owning its bytes: what an encoder hands to a writer.
struct Tensor {
  DType dtype = DType::F32;
  Shape shape;
  std::vector<std::byte> data;
  TensorView view() const { return {dtype, shape, data}; }
};

/// "(11008, 4000)"; scalars print "()".
std::string to_string(const Shape& shape);

}  // namespace mpk
