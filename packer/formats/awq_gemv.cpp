// "awq-gemv" and "awq-gemv-fast": what AutoAWQ writes for its matrix-vector kernels. Both pad the groups with
// zeros to a number that the kernels' loads like; the fast one stores a zero point times its scale.

#include <array>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "packer/code_block.hpp"
#include "packer/format/error.hpp"
#include "packer/format/float_bits.hpp"
#include "packer/formats/awq.hpp"

namespace mpk::formats {
namespace {

constexpr std::int64_t kZerosPerWord = 8;

/// 32-bit words of zero points per column; nullopt: the kernels have no such group_size.
std::optional<std::int64_t> zero_words(std::int64_t groups, std::int64_t rows_per_group) {
  const std::int64_t multiple = rows_per_group >= 128 ? 1 : rows_per_group == 64 ? 2 : 4;
  if (rows_per_group < 128 && rows_per_group != 64 && rows_per_group != 32) return std::nullopt;
  const std::int64_t words = (groups + kZerosPerWord - 1) / kZerosPerWord;
  return (words + multiple - 1) / multiple * multiple;
}

/// Groups with their padding, of a matrix without refusal.
std::int64_t padded_groups(const Scheme& scheme, K k) {
  return *zero_words(scheme.groups(k).value, scheme.rows_per_group(k)) * kZerosPerWord;
}

std::optional<std::string> refusal_of(const char* name, int rows, const Scheme& scheme, K k, N n) {
  if (auto why = awq_refusal(name, scheme, k, n)) return why;
  if (k.value % rows != 0)
    return fmt::format("{} needs K % {} == 0; here K = {} (% {} = {}); leave the module unquantized", name,
                       rows, k.value, rows, k.value % rows);
  if (!zero_words(scheme.groups(k).value, scheme.rows_per_group(k)))
    return fmt::format("{} kernels read group_size 32, 64, 128 and above, not {}; use format awq", name,
                       scheme.rows_per_group(k));
  return std::nullopt;
}

[[noreturn]] void refuse_groups(K k, std::int64_t padded) {
  throw Error{ErrorKind::bad_input,
              fmt::format("no group_size pads K = {} rows to {} groups of scales", k.value, padded)};
}

/// The group_size of K rows with this many padded groups: the configuration's if that fits, else the largest
/// that makes no fewer than `used()` groups, those which hold anything. Shapes alone cannot tell.
template <class Used>
std::optional<GroupSize> unpadded_group_size(K k, std::int64_t padded, const Claims& claims, Used used) {
  const auto fits = [&](std::int64_t size) {
    if (size < 1 || k.value % size != 0) return false;
    const auto words = zero_words(k.value / size, size);
    return words && *words * kZerosPerWord == padded;
  };
  const auto unless_one = [&](std::int64_t size) {
    return size == k.value ? std::nullopt : std::optional{GroupSize{size}};
  };
  if (claims.group_size) {
    const std::int64_t claimed = *claims.group_size == -1 ? k.value : *claims.group_size;
    if (fits(claimed)) return unless_one(claimed);
  }
  for (std::int64_t groups = std::max<std::int64_t>(1, used()); groups <= padded; ++groups)
    if (k.value % groups == 0 && fits(k.value / groups)) return unless_one(k.value / groups);
  refuse_groups(k, padded);
}

/// Refuses what is no such matrix at all, before anyone multiplies its extents.
void require_size(const char* name, const Geometry& found, std::int64_t padded) {
  if (auto why = awq_refusal(name, found.scheme, found.k, found.n)) throw Error{ErrorKind::unsupported, *why};
  if (padded > found.k.value + 4 * kZerosPerWord) refuse_groups(found.k, padded);
}

bool is_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

void refuse_padding(const char* suffix, std::int64_t column, std::int64_t groups) {
  throw Error{ErrorKind::bad_input,
              fmt::format("{}: column {} has something after its last group {}", suffix, column, groups - 1)};
}

// gemv: qweight (N, K / 8) down K; qzeros (N, words) and scales (N, 8 * words) along the groups.

std::optional<std::string> gemv_refusal(const Scheme& scheme, K k, N n) {
  return refusal_of("awq-gemv", 8, scheme, k, n);
}

std::vector<PartSpec> gemv_specs(const Scheme& scheme, K k, N n) {
  const std::int64_t padded = padded_groups(scheme, k);
  return {{"qweight", DType::I32, {n.value, k.value / 8}},
          {"qzeros", DType::I32, {n.value, padded / kZerosPerWord}},
          {"scales", scheme.scale_dtype, {n.value, padded}}};
}

/// Elements of a row of `padded`, which group by group belong to column n.
std::int64_t gemv_place(std::int64_t n, std::int64_t padded, std::int64_t group) {
  return n * padded + group;
}

std::optional<Geometry> recognize_gemv(const PartViews& parts, const Claims& claims) {
  const auto shapes = awq_shapes(parts);
  if (!shapes || !shapes->gemv) return std::nullopt;
  const Extents qweight = matrix_extents(parts, "qweight"), scales = matrix_extents(parts, "scales");
  Geometry found{{}, K{qweight.cols * 8}, N{qweight.rows}};
  found.scheme.scale_dtype = part_of(parts, "scales").dtype;
  const std::int64_t padded = scales.cols;
  const PartSpec expected[] = {{"qweight", DType::I32, {qweight.rows, qweight.cols}},
                               {"qzeros", DType::I32, {qweight.rows, padded / kZerosPerWord}},
                               {"scales", found.scheme.scale_dtype, {qweight.rows, padded}}};
  require_size("awq-gemv", found, padded);
  require(parts, expected);
  const std::span<const std::byte> words = part_of(parts, "qzeros").data,
                                   floats = part_of(parts, "scales").data;
  found.scheme.group_size = unpadded_group_size(found.k, padded, claims, [&] {
    std::int64_t used = 0;
    for (std::int64_t n = 0; n < found.n.value; ++n)
      for (std::int64_t group = used; group < padded; ++group) {
        const std::int64_t place = gemv_place(n, padded, group);
        if (!is_zero(floats.subspan(static_cast<std::size_t>(place) * 2, 2)) ||
            stream_element(words, place, 4) != 0)
          used = group + 1;
      }
    return used;
  });
  refuse(gemv_refusal, found.scheme, found.k, found.n);
  const std::int64_t groups = found.scheme.groups(found.k).value;
  set_awq_type(found.scheme, groups * found.n.value, [&](std::int64_t i) {
    return stream_element(words, gemv_place(i / groups, padded, i % groups), 4);
  });
  return found;
}

void read_gemv(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const ColumnWindow window = window_of(out, geometry);
  const std::int64_t padded = padded_groups(geometry.scheme, geometry.k), groups = out.scales.rows();
  within("qweight", [&] {
    unpack_along_k(part_of(parts, "qweight").data, 4, WordGrid::across(geometry.k, 4), window.first,
                   out.codes);
  });
  const std::span<const std::byte> scales = part_of(parts, "scales").data,
                                   words = part_of(parts, "qzeros").data;
  within("scales", [&] {
    load_scales(scales, geometry.scheme.scale_dtype, ScaleGrid::columns(Groups{padded}), window, out.scales);
  });
  for (Eigen::Index col = 0; col < out.codes.cols(); ++col) {
    const std::int64_t n = window.first + col;
    for (std::int64_t group = 0; group < padded; ++group) {
      const std::int64_t place = gemv_place(n, padded, group);
      const auto zero = static_cast<int>(stream_element(words, place, 4));
      if (group < groups) {
        put_awq_zero(out, group, col, zero);
      } else if (zero != 0) {
        refuse_padding("qzeros", n, groups);
      } else if (!is_zero(scales.subspan(static_cast<std::size_t>(place) * 2, 2))) {
        refuse_padding("scales", n, groups);
      }
    }
  }
}

void write_gemv(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  const ColumnWindow window = window_of(q, geometry);
  const std::int64_t padded = padded_groups(geometry.scheme, geometry.k);
  within("qweight", [&] {
    pack_along_k(q.codes, 4, WordGrid::across(geometry.k, 4), window.first, part_of(out, "qweight").data);
  });
  within("scales", [&] {
    store_scales(q.scales, geometry.scheme.scale_dtype, ScaleGrid::columns(Groups{padded}), window,
                 part_of(out, "scales").data);
  });
  const std::span<std::byte> words = part_of(out, "qzeros").data;
  for (Eigen::Index col = 0; col < q.codes.cols(); ++col)
    for (Eigen::Index group = 0; group < q.scales.rows(); ++group)
      add_stream_element(words, gemv_place(window.first + col, padded, group), 4,
                         static_cast<std::uint32_t>(awq_zero(q, group, col)));
}

// gemv_fast: qweight (N / 4, K) of 16-bit elements; scales and qzeros (padded groups, N), the latter floats.

/// 64 codes of one column are kRunBytes bytes in a row, and four columns take turns.
constexpr std::int64_t kRun = 64, kRunBytes = kRun / 2, kInterleaved = 4;

/// Where the codes k .. k + 63 of column n begin, in bytes; k % 64 == 0.
std::int64_t run_offset(K k, std::int64_t row, std::int64_t n) {
  return n / kInterleaved * k.value * 2 + (row / kRun * kInterleaved + n % kInterleaved) * kRunBytes;
}

/// Of 32 codes, the 16-bit element e holds e, 8 + e, 16 + e and 24 + e, from its lowest nibble to its
/// highest.
void pack_run(const std::uint8_t* codes, std::byte* out) {
  std::array<std::uint16_t, kRunBytes / 2> elements;
  for (int half = 0; half < 2; ++half, codes += 32)
    for (int e = 0; e < 8; ++e)
      elements[static_cast<std::size_t>(half * 8 + e)] =
          static_cast<std::uint16_t>(codes[e] | codes[8 + e] << 4 | codes[16 + e] << 8 | codes[24 + e] << 12);
  std::memcpy(out, elements.data(), sizeof elements);
}
void unpack_run(const std::byte* in, std::uint8_t* codes) {
  std::array<std::uint16_t, kRunBytes / 2> elements;
  std::memcpy(elements.data(), in, sizeof elements);
  for (int half = 0; half < 2; ++half, codes += 32)
    for (int p = 0; p < 4; ++p)
      for (int e = 0; e < 8; ++e)
        codes[8 * p + e] =
            static_cast<std::uint8_t>(elements[static_cast<std::size_t>(half * 8 + e)] >> (4 * p) & 15);
}

std::optional<std::string> fast_refusal(const Scheme& scheme, K k, N n) {
  if (auto why = refusal_of("awq-gemv-fast", static_cast<int>(kRun), scheme, k, n)) return why;
  if (n.value % kInterleaved != 0)
    return fmt::format("awq-gemv-fast needs N % 4 == 0; here N = {} (% 4 = {}); leave the module unquantized",
                       n.value, n.value % kInterleaved);
  return std::nullopt;
}

std::vector<PartSpec> fast_specs(const Scheme& scheme, K k, N n) {
  const std::int64_t padded = padded_groups(scheme, k);
  return {{"qweight", DType::I16, {n.value / kInterleaved, k.value}},
          {"qzeros", scheme.scale_dtype, {padded, n.value}},
          {"scales", scheme.scale_dtype, {padded, n.value}}};
}

/// Two bytes, in room for the four that the compiler thinks a float might need.
using HalfBytes = std::array<std::byte, 4>;
constexpr std::size_t kHalf = 2;

/// -(s * z) as the file has it: a 16-bit scale times a 4-bit number is exact in float32, so it is rounded
/// once.
HalfBytes scaled_zero(float scale, int zero, DType dtype) {
  HalfBytes bytes{};
  store_rounded(-(scale * static_cast<float>(zero)), dtype, bytes.data());
  return bytes;
}

/// The integer whose scaled_zero is exactly this; nullopt: there is none. Under a scale of 0 any number is:
/// the middle, so that a symmetric file stays one.
std::optional<int> recovered_zero(float scale, const std::byte* stored, DType dtype) {
  int zero = kU4B8.bias;
  if (scale != 0) {
    const float quotient = std::nearbyint(-load_float(stored, dtype) / scale);
    if (!(quotient >= 0 && quotient <= static_cast<float>(kU4.max_code()))) return std::nullopt;  // nor a NaN
    zero = static_cast<int>(quotient);
  }
  const HalfBytes again = scaled_zero(scale, zero, dtype);
  return std::memcmp(again.data(), stored, kHalf) == 0 ? std::optional{zero} : std::nullopt;
}

/// Elements of scales and qzeros.
struct FastTables {
  std::span<const std::byte> scales, zeros;
  DType dtype;
  std::int64_t columns;

  const std::byte* at(std::span<const std::byte> table, std::int64_t group, std::int64_t n) const {
    return table.data() + (group * columns + n) * 2;
  }
  float scale(std::int64_t group, std::int64_t n) const { return load_float(at(scales, group, n), dtype); }
  std::optional<int> zero(std::int64_t group, std::int64_t n) const {
    return recovered_zero(scale(group, n), at(zeros, group, n), dtype);
  }
  /// Of a whole group, scales and zero points.
  bool is_empty(std::int64_t group) const {
    const auto first = static_cast<std::size_t>(group * columns * 2),
               count = static_cast<std::size_t>(columns * 2);
    return is_zero(scales.subspan(first, count)) && is_zero(zeros.subspan(first, count));
  }
};

FastTables fast_tables(const PartViews& parts, const Scheme& scheme, N n) {
  return {part_of(parts, "scales").data, part_of(parts, "qzeros").data, scheme.scale_dtype, n.value};
}

[[noreturn]] void refuse_float_zeros(std::int64_t count, std::int64_t of, std::int64_t group,
                                     std::int64_t column) {
  throw Error{ErrorKind::unsupported,
              fmt::format("qzeros: {} of {} zero points are no integer 0 to {} times their scale, the first "
                          "one in group {}, column {}; quantize again with integer zero points",
                          count, of, kU4.max_code(), group, column)};
}

std::optional<Geometry> recognize_fast(const PartViews& parts, const Claims& claims) {
  if (!has_exactly(parts, {"qweight", "qzeros", "scales"}) || part_of(parts, "qweight").dtype != DType::I16)
    return std::nullopt;
  const Extents qweight = matrix_extents(parts, "qweight"), scales = matrix_extents(parts, "scales");
  Geometry found{{}, K{qweight.cols}, N{qweight.rows * kInterleaved}};
  found.scheme.scale_dtype = part_of(parts, "scales").dtype;
  const PartSpec expected[] = {{"qweight", DType::I16, {qweight.rows, qweight.cols}},
                               {"qzeros", found.scheme.scale_dtype, {scales.rows, found.n.value}},
                               {"scales", found.scheme.scale_dtype, {scales.rows, found.n.value}}};
  require_size("awq-gemv-fast", found, scales.rows);
  require(parts, expected);
  const FastTables tables = fast_tables(parts, found.scheme, found.n);
  found.scheme.group_size = unpadded_group_size(found.k, scales.rows, claims, [&] {
    std::int64_t used = scales.rows;
    while (used > 0 && tables.is_empty(used - 1)) --used;
    return used;
  });
  refuse(fast_refusal, found.scheme, found.k, found.n);

  const std::int64_t groups = found.scheme.groups(found.k).value, count = groups * found.n.value;
  std::int64_t refused = 0, first_refused = 0;
  for (std::int64_t i = count; i-- > 0;)
    if (!tables.zero(i / found.n.value, i % found.n.value)) {
      ++refused;
      first_refused = i;
    }
  if (refused > 0)
    refuse_float_zeros(refused, count, first_refused / found.n.value, first_refused % found.n.value);
  set_awq_type(found.scheme, count,
               [&](std::int64_t i) { return *tables.zero(i / found.n.value, i % found.n.value); });
  return found;
}

void read_fast(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const ColumnWindow window = window_of(out, geometry);
  const std::byte* const words = part_of(parts, "qweight").data.data();
  fill_blocks(out.codes, [&](CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    for (int n = 0; n < block.cols; ++n)
      for (int k = 0; k < block.rows; k += kRun)
        unpack_run(words + run_offset(geometry.k, k0 + k, window.first + n0 + n),
                   block.codes.data() + n * kBlockRows + k);
  });
  const FastTables tables = fast_tables(parts, geometry.scheme, geometry.n);
  within("scales", [&] {
    load_scales(tables.scales, geometry.scheme.scale_dtype, ScaleGrid::rows(geometry.n), window, out.scales);
  });
  const std::int64_t padded = padded_groups(geometry.scheme, geometry.k), groups = out.scales.rows();
  for (std::int64_t group = 0; group < padded; ++group)
    for (Eigen::Index col = 0; col < out.codes.cols(); ++col) {
      const std::int64_t n = window.first + col;
      if (group < groups) {
        const auto zero = tables.zero(group, n);
        if (!zero) refuse_float_zeros(1, 1, group, n);
        put_awq_zero(out, group, col, *zero);
      } else {
        for (const auto& [suffix, table] :
             {std::pair{"scales", tables.scales}, std::pair{"qzeros", tables.zeros}})
          if (!is_zero({tables.at(table, group, n), 2})) refuse_padding(suffix, n, groups);
      }
    }
}

void write_fast(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  const ColumnWindow window = window_of(q, geometry);
  std::byte* const words = part_of(out, "qweight").data.data();
  within("qweight", [&] {
    for_each_block(q.codes, kU4, window.first, [&](const CodeBlock& block, std::int64_t k0, std::int64_t n0) {
      for (int n = 0; n < block.cols; ++n)
        for (int k = 0; k < block.rows; k += kRun)
          pack_run(block.codes.data() + n * kBlockRows + k,
                   words + run_offset(geometry.k, k0 + k, window.first + n0 + n));
    });
  });
  within("scales", [&] {
    store_scales(q.scales, geometry.scheme.scale_dtype, ScaleGrid::rows(geometry.n), window,
                 part_of(out, "scales").data);
  });
  std::byte* const zeros = part_of(out, "qzeros").data.data();
  for (Eigen::Index group = 0; group < q.scales.rows(); ++group)
    for (Eigen::Index col = 0; col < q.codes.cols(); ++col) {
      const float scale = q.scales(group, col);
      const int zero = awq_zero(q, group, col);
      const HalfBytes bytes = scaled_zero(scale, zero, geometry.scheme.scale_dtype);
      if (!std::isfinite(load_float(bytes.data(), geometry.scheme.scale_dtype)))
        throw Error{
            ErrorKind::unsupported,
            fmt::format("group {}, column {}: the zero point {} times the scale {} is above the "
                        "largest {}; use format awq",
                        group, window.first + col, zero, scale, info(geometry.scheme.scale_dtype).name)};
      std::memcpy(zeros + (group * geometry.n.value + window.first + col) * 2, bytes.data(), kHalf);
    }
}

}  // namespace

WeightFormat awq_gemv() {
  return {.name = "awq-gemv",
          .family = "awq-gemv",
          .summary = "AutoAWQ's gemv version: 4 bit with zero points, packed along K",
          .suffixes = {"qweight", "qzeros", "scales"},
          .recognize = recognize_gemv,
          .read = read_gemv,
          .refusal = gemv_refusal,
          .specs = gemv_specs,
          .write = write_gemv,
          .quantization_config = [](const CheckpointSchemes& schemes) {
            return awq_config("gemv", true, schemes);
          }};
}

WeightFormat awq_gemv_fast() {
  return {.name = "awq-gemv-fast",
          .family = "awq-gemv-fast",
          .summary = "AutoAWQ's gemv_fast version, llm-awq's layout: 4 bit, zero points times their scales",
          .suffixes = {"qweight", "qzeros", "scales"},
          .recognize = recognize_fast,
          .read = read_fast,
          .refusal = fast_refusal,
          .specs = fast_specs,
          .write = write_fast,
          .quantization_config = [](const CheckpointSchemes& schemes) {
            return awq_config("gemv_fast", true, schemes);
          }};
}

}  // namespace mpk::formats
