// "hqq": half-quadratic quantization as its library and transformers store it, read only. Weights of groups
// along K; zero points are floats, unless all of them happen to be integers.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/float_bits.hpp"
#include "packer/formats/formats.hpp"
#include "packer/formats/g_idx.hpp"

namespace mpk::formats {
namespace {

/// The matrix U of groups, R rows of g codes, is cut into `blocks` runs of rows that share storage elements,
/// the first run in the highest bits.
struct Packing {
  int bits;           ///< of a field
  int blocks;         ///< fields of an element
  int element_bytes;  ///< of a stored element
};
constexpr std::array kPackings{Packing{8, 1, 1}, Packing{4, 2, 1}, Packing{2, 4, 1}, Packing{1, 8, 1},
                               Packing{3, 10, 4}};

/// 5 and 6 bits are stored as 8.
const Packing* packing_of(int bits) {
  for (const Packing& packing : kPackings)
    if (packing.bits == (bits == 5 || bits == 6 ? 8 : bits)) return &packing;
  return nullptr;
}

/// What the file tells of U and how it is cut.
struct Stored {
  Packing packing;
  std::int64_t groups_per_column, group_size, rows;  ///< rows = N * groups_per_column
  std::int64_t stored_rows() const { return (rows + packing.blocks - 1) / packing.blocks; }
  std::int64_t stored_bytes() const { return stored_rows() * group_size * packing.element_bytes; }
};

/// A metadata tensor of one integer, if it is there.
std::optional<std::int64_t> number(const PartViews& parts, std::string_view suffix) {
  const auto found = parts.find(suffix);
  if (found == parts.end()) return std::nullopt;
  const TensorView& tensor = found->second;
  if (!is_integer(tensor.dtype) || tensor.data.size() != bytes_of(tensor.dtype))
    throw Error{ErrorKind::bad_input, fmt::format("{} {} {} is no number", suffix, info(tensor.dtype).name,
                                                  to_string(tensor.shape))};
  return integer_at(tensor, 0);
}

/// (N, K)
Extents shape_of(const PartViews& parts) {
  const auto found = parts.find("shape");
  if (found == parts.end())
    throw Error{ErrorKind::unsupported,
                "HQQ weights without the tensor shape do not say how many columns they have"};
  const TensorView& tensor = found->second;
  if (!is_integer(tensor.dtype) || tensor.data.size() != 2 * bytes_of(tensor.dtype))
    throw Error{ErrorKind::bad_input, fmt::format("shape {} {} is no pair of numbers",
                                                  info(tensor.dtype).name, to_string(tensor.shape))};
  return {integer_at(tensor, 0), integer_at(tensor, 1)};
}

/// The type whose codes are `bits` wide; 1 bit has none of its own.
ScalarType code_type(int bits) {
  return unsigned_integer(std::max(bits, 2));
}

Stored stored_as(int bits, K k, N n, std::optional<GroupSize> group_size) {
  const std::int64_t size = group_size ? group_size->value : k.value;
  return {*packing_of(bits), k.value / size, size, n.value * (k.value / size)};
}

/// nbits of the file, else of the configuration, else the number that makes W_q as large as it is.
int bits_of(const PartViews& parts, const Claims& claims, K k, N n, std::optional<GroupSize> group_size) {
  auto bits = number(parts, "nbits");
  if (!bits && claims.bits) bits = *claims.bits;
  if (bits) {
    if (*bits < 1 || *bits > 8 || !packing_of(static_cast<int>(*bits)))
      throw Error{ErrorKind::unsupported,
                  fmt::format("HQQ weights of {} bits are not read; 1, 2, 3, 4, 5, 6 and 8 are", *bits)};
    return static_cast<int>(*bits);
  }
  for (const Packing& packing : kPackings)
    if (stored_as(packing.bits, k, n, group_size).stored_bytes() == std::ssize(part_of(parts, "W_q").data))
      return packing.bits;
  throw Error{ErrorKind::bad_input, fmt::format("W_q has {} bytes, which no number of bits makes of ({}, {})",
                                                part_of(parts, "W_q").data.size(), n.value, k.value)};
}

/// A float per row of U, (N, groups) in C order.
void require_table(const PartViews& parts, const char* suffix, std::int64_t rows) {
  const TensorView& table = part_of(parts, suffix);
  if (table.dtype != DType::F32 && table.dtype != DType::F16 && table.dtype != DType::BF16)
    throw Error{ErrorKind::unsupported,
                fmt::format("{} is {}; F32, F16 and BF16 are read", suffix, info(table.dtype).name)};
  if (table.data.size() != static_cast<std::size_t>(rows) * bytes_of(table.dtype))
    throw Error{ErrorKind::bad_input,
                fmt::format("{} {} has {} bytes, {} groups need {}", suffix, to_string(table.shape),
                            table.data.size(), rows, static_cast<std::size_t>(rows) * bytes_of(table.dtype))};
}

std::optional<Geometry> recognize(const PartViews& parts, const Claims& claims) {
  if (!has_part(parts, "W_q")) return std::nullopt;
  if (!has_part(parts, "scale") || !has_part(parts, "zero"))
    throw Error{ErrorKind::unsupported,
                "HQQ weights whose scale and zero are quantized themselves are not read"};
  if (const auto axis = number(parts, "axis"); axis && *axis != 1)
    throw Error{ErrorKind::unsupported,
                fmt::format("HQQ weights grouped along axis {}: their groups cross the outputs, so that no "
                            "output has scales of its own; quantize with axis 1",
                            *axis)};
  const Extents shape = shape_of(parts);
  Geometry found{{}, K{shape.cols}, N{shape.rows}};
  Scheme& scheme = found.scheme;
  refuse(common_refusal, scheme, found.k, found.n);

  const TensorView& scale = part_of(parts, "scale");
  scheme.scale_dtype = scale.dtype;
  std::optional<std::int64_t> size = number(parts, "group_size");
  if (size && *size < 1) size.reset();
  if (!size && bytes_of(scale.dtype) > 0) {  // as many groups as there are scales
    const auto scales = static_cast<std::int64_t>(scale.data.size() / bytes_of(scale.dtype));
    if (scales % found.n.value == 0 && scales > 0 && found.k.value % (scales / found.n.value) == 0)
      size = found.k.value / (scales / found.n.value);
  }
  if (!size || found.k.value % *size != 0)
    throw Error{ErrorKind::unsupported,
                fmt::format("HQQ groups of {} do not divide K = {}: they would cross the outputs",
                            size.value_or(0), found.k.value)};
  if (*size != found.k.value) scheme.group_size = GroupSize{*size};

  const int bits = bits_of(parts, claims, found.k, found.n, scheme.group_size);
  const Stored stored = stored_as(bits, found.k, found.n, scheme.group_size);
  if (stored.packing.blocks != 10 && stored.rows % stored.packing.blocks != 0)
    throw Error{ErrorKind::bad_input,
                fmt::format("W_q: {} groups are no multiple of {}", stored.rows, stored.packing.blocks)};
  // The dtype may be any: view_as_float relabels the same bytes.
  if (std::ssize(part_of(parts, "W_q").data) != stored.stored_bytes())
    throw Error{ErrorKind::bad_input,
                fmt::format("W_q has {} bytes; ({}, {}) in groups of {} and {} bits needs {}",
                            part_of(parts, "W_q").data.size(), found.n.value, found.k.value, *size, bits,
                            stored.stored_bytes())};
  require_table(parts, "scale", stored.rows);
  require_table(parts, "zero", stored.rows);

  scheme.type = code_type(bits);
  const TensorView& zero = part_of(parts, "zero");
  scheme.zero_points = ZeroPoints::integer;
  for (std::int64_t row = 0; row < stored.rows; ++row) {
    const float value =
        load_float(zero.data.data() + static_cast<std::size_t>(row) * bytes_of(zero.dtype), zero.dtype);
    const bool in_range = value >= 0 && value <= static_cast<float>(scheme.type.max_code());
    if (!in_range || value != std::floor(value) || std::signbit(value)) {
      scheme.zero_points = ZeroPoints::floating;
      break;
    }
  }
  return found;
}

/// How many bits the file's codes have, given what `recognize` made of them: 1-bit codes have become 2-bit
/// ones and only the size of W_q remembers.
Packing packing_in(const PartViews& parts, const Geometry& geometry) {
  const auto size = std::ssize(part_of(parts, "W_q").data);
  const auto stored = [&](int bits) {
    return stored_as(bits, geometry.k, geometry.n, geometry.scheme.group_size);
  };
  const int bits = geometry.scheme.type.bits;
  return bits == 2 && stored(2).stored_bytes() != size ? stored(1).packing : stored(bits).packing;
}

/// `count` elements of one row of U, out of the words that hold them.
template <class Element>
void unpack_row(const std::byte* from, int shift, unsigned mask, std::int64_t count, std::uint8_t* codes) {
  for (std::int64_t i = 0; i < count; ++i) {
    Element element;
    std::memcpy(&element, from + i * static_cast<std::int64_t>(sizeof element), sizeof element);
    codes[i] = static_cast<std::uint8_t>((element >> shift) & mask);
  }
}

void read(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const Scheme& scheme = geometry.scheme;
  const K k = geometry.k;
  const N n = geometry.n;
  const ColumnWindow window = window_of(out, geometry);
  const Packing packing = packing_in(parts, geometry);
  Stored stored = stored_as(scheme.type.bits, k, n, scheme.group_size);
  stored.packing = packing;
  const std::byte* const words = part_of(parts, "W_q").data.data();
  const std::int64_t stored_rows = stored.stored_rows();
  const unsigned mask = (1u << packing.bits) - 1;
#pragma omp parallel for schedule(static)
  for (std::int64_t col = 0; col < out.codes.cols(); ++col)
    for (std::int64_t group = 0; group < stored.groups_per_column; ++group) {
      const std::int64_t row = (window.first + col) * stored.groups_per_column + group;
      const int shift = packing.bits * (packing.blocks - 1 - static_cast<int>(row / stored_rows));
      const std::byte* from = words + row % stored_rows * stored.group_size * packing.element_bytes;
      std::uint8_t* to = out.codes.data() + col * k.value + group * stored.group_size;
      packing.element_bytes == 1 ? unpack_row<std::uint8_t>(from, shift, mask, stored.group_size, to)
                                 : unpack_row<std::uint32_t>(from, shift, mask, stored.group_size, to);
    }
  if (packing.bits > scheme.type.bits)  // 5 and 6 bits in bytes
    for (Eigen::Index i = 0; i < out.codes.size(); ++i)
      if (const int code = out.codes.data()[i]; code > scheme.type.max_code())
        throw Error{
            ErrorKind::bad_input,
            fmt::format("W_q: code {} at (k, n) = ({}, {}) is above {}, the largest of {} bits", code,
                        i % k.value, window.first + i / k.value, scheme.type.max_code(), scheme.type.bits)};
  const ScaleGrid grid = ScaleGrid::columns(scheme.groups(k));
  within("scale",
         [&] { load_scales(part_of(parts, "scale").data, scheme.scale_dtype, grid, window, out.scales); });
  const TensorView& zero = part_of(parts, "zero");
  MatrixF zeros(out.scales.rows(), out.scales.cols());
  within("zero", [&] { load_scales(zero.data, zero.dtype, grid, window, zeros); });
  if (scheme.zero_points == ZeroPoints::integer) {
    out.zero_points = zeros.cast<std::int16_t>();
  } else {
    out.float_zeros = std::move(zeros);
  }
}

}  // namespace

WeightFormat hqq() {
  return {.name = "hqq",
          .family = "hqq",
          .summary = "HQQ with groups along K (axis 1): 1 to 8 bit, float zero points; read only",
          .suffixes = {"W_q", "scale", "zero"},
          .recognize = recognize,
          .read = read};
}

}  // namespace mpk::formats
