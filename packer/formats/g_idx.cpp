#include "packer/formats/g_idx.hpp"

#include <cstring>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk::formats {

namespace {

template <class T>
std::int64_t load_as(const TensorView& integers, std::int64_t i) {
  T value;
  std::memcpy(&value, integers.data.data() + static_cast<std::size_t>(i) * sizeof value, sizeof value);
  return static_cast<std::int64_t>(value);
}

}  // namespace

bool is_integer(DType dtype) {
  return dtype == DType::I64 || dtype == DType::I32 || dtype == DType::U32 || dtype == DType::I8 ||
         dtype == DType::U8 || dtype == DType::BOOL;
}

std::int64_t integer_at(const TensorView& integers, std::int64_t i) {
  switch (integers.dtype) {
    case DType::I64:
      return load_as<std::int64_t>(integers, i);
    case DType::I32:
      return load_as<std::int32_t>(integers, i);
    case DType::U32:
      return load_as<std::uint32_t>(integers, i);
    case DType::I8:
      return load_as<std::int8_t>(integers, i);
    case DType::U8:
    case DType::BOOL:
      return load_as<std::uint8_t>(integers, i);
    default:
      throw Error{ErrorKind::bad_input, fmt::format("{} is no integer", info(integers.dtype).name)};
  }
}

namespace {

std::int64_t existing_group(const TensorView& g_idx, std::int64_t row, std::int64_t groups) {
  const std::int64_t group = integer_at(g_idx, row);
  if (group < 0 || group >= groups)
    throw Error{ErrorKind::bad_input, fmt::format("g_idx: row {} is in group {} of {}", row, group, groups)};
  return group;
}

}  // namespace

bool is_scrambled(const TensorView& g_idx, K k, std::int64_t groups, std::optional<GroupSize> group_size) {
  const std::int64_t rows = group_size ? group_size->value : k.value;
  bool scrambled = false;
  for (std::int64_t row = 0; row < k.value; ++row)
    scrambled |= existing_group(g_idx, row, groups) != row / rows;
  return scrambled;
}

void read_g_idx(const TensorView& g_idx, const Geometry& geometry, QuantizedMatrix& out) {
  const std::int64_t rows = geometry.scheme.rows_per_group(geometry.k),
                     groups = geometry.scheme.groups(geometry.k).value;
  for (std::int64_t row = 0; row < geometry.k.value; ++row) {
    const std::int64_t group = existing_group(g_idx, row, groups);
    if (geometry.scheme.act_order) {
      out.g_idx[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(group);
    } else if (group != row / rows) {
      throw Error{ErrorKind::bad_input,
                  fmt::format("g_idx: row {} is in group {}, not {}", row, group, row / rows)};
    }
  }
}

void write_g_idx(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffer& g_idx) {
  const std::int64_t rows = geometry.scheme.rows_per_group(geometry.k);
  for (std::int64_t row = 0; row < geometry.k.value; ++row) {
    const std::int64_t group =
        geometry.scheme.act_order ? q.g_idx[static_cast<std::size_t>(row)] : row / rows;
    if (g_idx.dtype == DType::I64) {
      std::memcpy(g_idx.data.data() + row * 8, &group, sizeof group);
    } else {
      store_word(g_idx.data, row, static_cast<std::uint32_t>(group));
    }
  }
}

}  // namespace mpk::formats
