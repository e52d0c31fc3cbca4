#include "packer/formats/float_parts.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/float_bits.hpp"

namespace mpk::formats {
namespace {

/// Where the window's columns begin, in a matrix of `rows` bytes per column.
std::size_t offset_of(Eigen::Index rows, Eigen::Index cols, ColumnWindow window, std::size_t bytes) {
  if (rows < 1 || cols < 1 || window.first < 0 ||
      static_cast<std::size_t>(window.first + cols) > bytes / static_cast<std::size_t>(rows))
    throw Error{ErrorKind::bad_input, fmt::format("columns {} to {} of {} bytes each do not lie in {} bytes",
                                                  window.first, window.first + cols, rows, bytes)};
  return static_cast<std::size_t>(window.first) * static_cast<std::size_t>(rows);
}

bool is_nan_e4m3(std::uint8_t code) {
  return (code & 0x7fu) == 0x7fu;
}

bool has_nan_e4m3(const std::uint8_t* codes, std::size_t count) {
  std::uint8_t found = 0;
  for (std::size_t i = 0; i < count; ++i) found |= static_cast<std::uint8_t>(is_nan_e4m3(codes[i]));
  return found != 0;
}

/// Copies the columns and refuses NaN. `codes` is one of the two, for the message.
void copy_e4m3(const std::byte* from, std::byte* to, const Codes& codes, ColumnWindow window) {
  constexpr std::size_t kPiece = 4096;  // scanned while it is in the first-level cache
  const auto rows = static_cast<std::size_t>(codes.rows());
  std::atomic<bool> found{false};
#pragma omp parallel for schedule(static)
  for (Eigen::Index n = 0; n < codes.cols(); ++n) {
    const std::size_t begin = static_cast<std::size_t>(n) * rows;
    for (std::size_t k = 0; k < rows; k += kPiece) {
      const std::size_t count = std::min(kPiece, rows - k);
      std::memcpy(to + begin + k, from + begin + k, count);
      if (has_nan_e4m3(codes.data() + begin + k, count)) found = true;
    }
  }
  if (!found) return;
  for (Eigen::Index n = 0; n < codes.cols(); ++n)
    for (Eigen::Index k = 0; k < codes.rows(); ++k)
      if (is_nan_e4m3(codes(k, n)))
        throw Error{ErrorKind::bad_input, fmt::format("the code at (k, n) = ({}, {}) is 0x{:02x}, NaN", k,
                                                      window.first + n, codes(k, n))};
}

/// Calls work(column) -> bool for every column, in parallel; false if one of them was.
template <class Work>
bool all_columns(Eigen::Index cols, Work work) {
  std::atomic<bool> good{true};
#pragma omp parallel for schedule(static)
  for (Eigen::Index n = 0; n < cols; ++n)
    if (!work(n)) good = false;
  return good;
}

std::array<float, 256> values_of(DType dtype) {
  std::array<float, 256> values;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto byte = static_cast<std::uint8_t>(i);
    values[i] = dtype == DType::F8_E4M3 ? e4m3_to_float(byte) : e8m0_to_float(byte);
  }
  return values;
}

void require_global(std::string_view suffix, float value, GlobalScale kind) {
  if (!std::isfinite(value))
    throw Error{ErrorKind::bad_input, fmt::format("{} is {}, not finite", suffix, value)};
  if (kind == GlobalScale::divides && value == 0)
    throw Error{ErrorKind::bad_input, fmt::format("{} is 0, and the weights are divided by it", suffix)};
}

}  // namespace

void read_e4m3(std::span<const std::byte> bytes, ColumnWindow window, Codes& codes) {
  const std::size_t offset = offset_of(codes.rows(), codes.cols(), window, bytes.size());
  copy_e4m3(bytes.data() + offset, reinterpret_cast<std::byte*>(codes.data()), codes, window);
}

void write_e4m3(const Codes& codes, ColumnWindow window, std::span<std::byte> out) {
  const std::size_t offset = offset_of(codes.rows(), codes.cols(), window, out.size());
  copy_e4m3(reinterpret_cast<const std::byte*>(codes.data()), out.data() + offset, codes, window);
}

// Little-endian words are bytes in order: the stream along k is the field's byte packing.
void read_e2m1(std::span<const std::byte> bytes, ColumnWindow window, Codes& codes) {
  unpack_along_k(bytes, 4, WordGrid::across(K{codes.rows()}, 4), window.first, codes);
}

void write_e2m1(const Codes& codes, ColumnWindow window, std::span<std::byte> out) {
  pack_along_k(codes, 4, WordGrid::across(K{codes.rows()}, 4), window.first, out);
}

void read_byte_scales(std::span<const std::byte> bytes, DType dtype, ColumnWindow window, MatrixF& scales) {
  const std::array<float, 256> values = values_of(dtype);
  const std::size_t offset = offset_of(scales.rows(), scales.cols(), window, bytes.size());
  const auto* from = reinterpret_cast<const std::uint8_t*>(bytes.data()) + offset;
  const bool finite = all_columns(scales.cols(), [&](Eigen::Index n) {
    bool all = true;
    for (Eigen::Index group = 0; group < scales.rows(); ++group) {
      const float value = values[from[n * scales.rows() + group]];
      scales(group, n) = value;
      all &= value == value;
    }
    return all;
  });
  if (finite) return;
  for (Eigen::Index n = 0; n < scales.cols(); ++n)
    for (Eigen::Index group = 0; group < scales.rows(); ++group)
      if (!std::isfinite(scales(group, n)))
        throw Error{ErrorKind::bad_input,
                    fmt::format("the scale of group {}, column {} is NaN", group, window.first + n)};
}

void write_byte_scales(const MatrixF& scales, DType dtype, ColumnWindow window, std::span<std::byte> out) {
  const std::size_t offset = offset_of(scales.rows(), scales.cols(), window, out.size());
  const auto place = [&](Eigen::Index group, Eigen::Index n) {
    return out.data() + offset + static_cast<std::size_t>(n * scales.rows() + group);
  };
  const bool exact = all_columns(scales.cols(), [&](Eigen::Index n) {
    bool all = true;
    for (Eigen::Index group = 0; group < scales.rows(); ++group)
      all &= store_exactly(scales(group, n), dtype, place(group, n));
    return all;
  });
  if (exact) return;
  for (Eigen::Index n = 0; n < scales.cols(); ++n)
    for (Eigen::Index group = 0; group < scales.rows(); ++group)
      if (!is_representable(scales(group, n), dtype))
        throw Error{ErrorKind::bad_input,
                    fmt::format("the scale of group {}, column {} is {}, no finite {} number", group,
                                window.first + n, scales(group, n), info(dtype).name)};
}

void read_global_scale(const PartViews& parts, std::string_view suffix, QuantizedMatrix& out) {
  const TensorView& part = part_of(parts, suffix);
  if (part.data.size() != sizeof(float))
    throw Error{ErrorKind::bad_input, fmt::format("{} has {} bytes, not 4", suffix, part.data.size())};
  out.global_scale = load_float(part.data.data(), DType::F32);
  require_global(suffix, out.global_scale, out.scheme.global_scale);
}

void write_global_scale(const QuantizedMatrix& q, const PartBuffers& out, std::string_view suffix) {
  require_global(suffix, q.global_scale, q.scheme.global_scale);
  if (q.first_column != 0) return;
  const PartBuffer& part = part_of(out, suffix);
  if (part.data.size() != sizeof(float))
    throw Error{ErrorKind::bad_input, fmt::format("{} has {} bytes, not 4", suffix, part.data.size())};
  store_exactly(q.global_scale, DType::F32, part.data.data());
}

std::optional<std::string> float_refusal(const char* name, ScalarType type, const Scheme& scheme, K k, N n) {
  if (auto why = common_refusal(scheme, k, n)) return why;
  if (scheme.type != type)
    return fmt::format("{} holds {} codes, not {}", name, name_of(type), name_of(scheme.type));
  if (scheme.zero_points != ZeroPoints::implied) return fmt::format("{} has no zero points", name);
  if (scheme.act_order) return fmt::format("{} has no act-order", name);
  return std::nullopt;
}

std::optional<std::string> block_refusal(const BlockFormat& format, const Scheme& scheme, K k, N n) {
  if (auto why = float_refusal(format.name, format.type, scheme, k, n)) return why;
  if (k.value % format.size.value != 0)
    return fmt::format("{} needs K % {} == 0; here K = {} (% {} = {}); leave the module unquantized",
                       format.name, format.size.value, k.value, format.size.value,
                       k.value % format.size.value);
  if (scheme.rows_per_group(k) != format.size.value || scheme.columns_per_scale != 1)
    return fmt::format("{} has a scale for every {} rows of a column; here group_size is {}{}", format.name,
                       format.size.value, group_size_number(scheme),
                       scheme.columns_per_scale == 1 ? "" : " and columns share scales");
  if (scheme.scale_dtype != format.scale_dtype)
    return fmt::format("scales of {} are {}, not {}", format.name, info(format.scale_dtype).name,
                       info(scheme.scale_dtype).name);
  if (scheme.global_scale != format.global_scale)
    return fmt::format("{} has {}; here there is {}", format.name,
                       format.global_scale == GlobalScale::none         ? "no global scale"
                       : format.global_scale == GlobalScale::multiplies ? "a global scale that multiplies"
                                                                        : "a global scale that divides",
                       scheme.global_scale == GlobalScale::none         ? "none"
                       : scheme.global_scale == GlobalScale::multiplies ? "one that multiplies, and its "
                                                                          "reciprocal would not be exact; "
                                                                          "use format modelopt"
                                                                        : "one that divides, and its "
                                                                          "reciprocal would not be exact; "
                                                                          "use format compressed-tensors");
  return std::nullopt;
}

void refuse_others(const PartViews& parts, std::initializer_list<std::string_view> known) {
  for (const auto& [suffix, part] : parts)
    if (std::ranges::find(known, suffix) == known.end())
      throw Error{
          ErrorKind::unsupported,
          fmt::format("{} is there as well and is not read; without it the weight would be another", suffix)};
}

std::optional<DType> dtype_of(const PartViews& parts, std::string_view suffix) {
  const auto found = parts.find(suffix);
  return found == parts.end() ? std::nullopt : std::optional{found->second.dtype};
}

}  // namespace mpk::formats
