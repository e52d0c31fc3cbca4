// "ct-pack-quantized": compressed-tensors' integers of 2 to 8 bits in words, in both packings that its
// versions wrote.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/formats/compressed_tensors.hpp"
#include "packer/formats/g_idx.hpp"
#include "packer/formats/word_fields.hpp"

namespace mpk::formats {
namespace {

std::optional<std::string> refusal(const Scheme& scheme, K k, N n) {
  if (auto why = ct_integer_refusal("ct-pack-quantized", scheme, k, n)) return why;
  if (scheme.columns_per_scale == Scheme::kAllColumns && scheme.zero_points == ZeroPoints::integer)
    return "ct-pack-quantized packs zero points of groups and columns, not one for the matrix";
  return std::nullopt;
}

std::vector<PartSpec> specs(const Scheme& scheme, K k, N n) {
  const int bits = scheme.type.bits;
  std::vector<PartSpec> result{
      {"weight_packed", DType::I32, {n.value, num_words(k.value, bits, WordFields::dense)}},
      {"weight_scale", scheme.scale_dtype, ct_scale_shape(scheme, k, n)},
      {"weight_shape", DType::I64, {2}}};
  if (scheme.zero_points == ZeroPoints::integer)
    result.push_back({"weight_zero_point",
                      DType::I32,
                      {num_words(n.value, bits, WordFields::dense), scheme.groups(k).value}});
  if (scheme.act_order) result.push_back({"weight_g_idx", DType::I32, {k.value}});
  return result;
}

/// One way to understand the words.
struct Packing {
  int bits;
  WordFields fields;
  friend bool operator==(const Packing&, const Packing&) = default;
};

/// Words per row of weight_packed, and per column of weight_zero_point if there is one.
struct Widths {
  std::int64_t codes;
  std::optional<std::int64_t> zeros;
};

bool fits(Packing packing, const Widths& widths, K k, N n) {
  return num_words(k.value, packing.bits, packing.fields) == widths.codes &&
         (!widths.zeros || num_words(n.value, packing.bits, packing.fields) == *widths.zeros);
}

/// Whether rows of words can be such fields: bits that no code owns are 0.
bool rest_is_zero(std::span<const std::byte> words, std::int64_t words_per_row, std::int64_t rows,
                  Packing packing, std::int64_t count) {
  std::vector<std::uint32_t> owned(static_cast<std::size_t>(words_per_row));
  for (std::int64_t i = 0; i < count; ++i)
    for (int b = 0; b < packing.bits; ++b) {
      const std::int64_t bit = first_bit(i, packing.bits, packing.fields) + b;
      owned.at(static_cast<std::size_t>(bit / 32)) |= 1u << (bit % 32);
    }
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t w = 0; w < words_per_row; ++w)
      if ((load_word(words, row * words_per_row + w) & ~owned[static_cast<std::size_t>(w)]) != 0)
        return false;
  return true;
}

/// Which packing, of a file with these bits. Only for small K or N do both have the same widths; then the
/// data tell: a dense file hardly keeps the bits 0 that the older packing leaves out. If even those fit both,
/// it is dense.
WordFields fields_of(const PartViews& parts, int bits, K k, N n) {
  if (32 % bits == 0) return WordFields::dense;  // which is the older packing as well
  const std::span<const std::byte> words = part_of(parts, "weight_packed").data;
  Widths widths{part_of(parts, "weight_packed").shape.at(1), {}};
  if (has_part(parts, "weight_zero_point")) widths.zeros = part_of(parts, "weight_zero_point").shape.at(0);
  const Packing dense{bits, WordFields::dense}, legacy{bits, WordFields::legacy};
  if (!fits(legacy, widths, k, n)) return WordFields::dense;
  if (!fits(dense, widths, k, n)) return WordFields::legacy;
  constexpr std::int64_t kEnough = 1024;
  const std::int64_t rows = std::min(n.value, kEnough);
  return !rest_is_zero(words, widths.codes, rows, dense, k.value) &&
                 rest_is_zero(words, widths.codes, rows, legacy, k.value)
             ? WordFields::legacy
             : WordFields::dense;
}

/// The bits of a code: nothing in the file says them. Words per row leave one choice for matrices of usual
/// size, but for 7 bits in the older packing, which are as wide as 8: the configuration decides.
int bits_of(const Widths& widths, K k, N n, const Claims& claims) {
  std::vector<int> found;
  for (int bits = 2; bits <= 8; ++bits)
    if (fits({bits, WordFields::dense}, widths, k, n) || fits({bits, WordFields::legacy}, widths, k, n))
      found.push_back(bits);
  const auto has = [&](int bits) { return std::ranges::find(found, bits) != found.end(); };
  if (claims.bits && has(*claims.bits)) return *claims.bits;
  if (found.size() == 2 && has(7) && has(8)) return 8;
  if (found.size() == 1) return found.front();
  throw Error{ErrorKind::bad_input,
              fmt::format("{} words for a row of K = {} codes are {}{}", widths.codes, k.value,
                          found.empty() ? "no number of bits from 2 to 8"
                                        : fmt::format("{} to {} bits", found.front(), found.back()),
                          found.empty() ? "" : ", and the configuration does not tell num_bits")};
}

/// Zero points run down the columns of weight_zero_point, (words, groups): one field of one group.
std::uint32_t zero_at(std::span<const std::byte> words, std::int64_t groups, std::int64_t group,
                      std::int64_t column, Packing packing) {
  const std::int64_t bit = first_bit(column, packing.bits, packing.fields), word = bit / 32;
  std::uint64_t two = load_word(words, word * groups + group);
  if (bit % 32 + packing.bits > 32) two |= std::uint64_t{load_word(words, (word + 1) * groups + group)} << 32;
  return static_cast<std::uint32_t>(two >> (bit % 32)) & ((1u << packing.bits) - 1);
}

/// The inverse, into words that hold 0 there. In the older packing neighbouring ranges of columns may share a
/// byte, and other threads write theirs.
void add_zero(std::span<std::byte> words, std::int64_t groups, std::int64_t group, std::int64_t column,
              Packing packing, std::uint32_t zero) {
  const std::int64_t bit = first_bit(column, packing.bits, packing.fields);
  for (int b = 0; b < packing.bits;) {
    const std::int64_t at = bit + b, byte = (at / 32 * groups + group) * 4 + at % 32 / 8;
    const int here = std::min<int>(packing.bits - b, static_cast<int>(8 - at % 8));
    const auto value = static_cast<unsigned char>((zero >> b & ((1u << here) - 1)) << (at % 8));
    std::atomic_ref{reinterpret_cast<unsigned char&>(words[static_cast<std::size_t>(byte)])}.fetch_or(
        value, std::memory_order_relaxed);
    b += here;
  }
}

std::optional<Geometry> recognize(const PartViews& parts, const Claims& claims) {
  if (!has_exactly(parts, {"weight_packed", "weight_scale", "weight_shape"},
                   {"weight_zero_point", "weight_g_idx"}) ||
      part_of(parts, "weight_packed").dtype != DType::I32)
    return std::nullopt;
  const Extents packed = matrix_extents(parts, "weight_packed");
  const TensorView& shape = part_of(parts, "weight_shape");
  const PartSpec shape_spec{"weight_shape", shape.dtype == DType::I32 ? DType::I32 : DType::I64, {2}};
  require({{"weight_shape", shape}}, std::span{&shape_spec, 1});
  Geometry found{{}, K{integer_at(shape, 1)}, N{integer_at(shape, 0)}};
  if (found.n.value != packed.rows)
    throw Error{ErrorKind::bad_input, fmt::format("weight_shape says ({}, {}), weight_packed has {} rows",
                                                  found.n.value, found.k.value, packed.rows)};
  Scheme& scheme = found.scheme;
  refuse(common_refusal, scheme, found.k, found.n);
  Widths widths{packed.cols, {}};
  if (has_part(parts, "weight_zero_point")) {
    widths.zeros = matrix_extents(parts, "weight_zero_point").rows;
    scheme.zero_points = ZeroPoints::integer;
  }
  const int bits = within("weight_packed", [&] { return bits_of(widths, found.k, found.n, claims); });
  scheme.type = scheme.zero_points == ZeroPoints::integer ? unsigned_integer(bits) : symmetric_integer(bits);
  set_ct_scales(scheme, parts, found.k, found.n, claims);
  refuse(refusal, scheme, found.k, found.n);

  std::vector<PartSpec> expected = specs(scheme, found.k, found.n);
  expected[0].shape[1] = widths.codes;
  if (part_of(parts, "weight_scale").shape.empty()) expected[1].shape.clear();
  expected[2] = shape_spec;
  if (widths.zeros) expected[3].shape[0] = *widths.zeros;
  if (has_part(parts, "weight_g_idx")) {
    const bool wide = part_of(parts, "weight_g_idx").dtype == DType::I64;
    expected.push_back({"weight_g_idx", wide ? DType::I64 : DType::I32, {found.k.value}});
  }
  require(parts, expected);
  if (has_part(parts, "weight_g_idx")) {
    const TensorView& g_idx = part_of(parts, "weight_g_idx");
    bool unset = true;
    for (std::int64_t row = 0; row < found.k.value && unset; ++row) unset = integer_at(g_idx, row) == -1;
    scheme.act_order = !unset && within("weight_g_idx", [&] {
      return is_scrambled(g_idx, found.k, scheme.groups(found.k).value, scheme.group_size);
    });
  }
  return found;
}

void read(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const Scheme& scheme = geometry.scheme;
  const K k = geometry.k;
  const N n = geometry.n;
  const ColumnWindow window = window_of(out, geometry);
  const Packing packing{scheme.type.bits, fields_of(parts, scheme.type.bits, k, n)};
  within("weight_packed", [&] {
    unpack_fields(part_of(parts, "weight_packed").data, packing.bits, packing.fields, window.first,
                  out.codes);
  });
  within("weight_scale", [&] {
    load_scales(part_of(parts, "weight_scale").data, scheme.scale_dtype, ct_scale_grid(scheme, k), window,
                out.scales);
  });
  const TensorView& shape = part_of(parts, "weight_shape");
  if (integer_at(shape, 0) != n.value || integer_at(shape, 1) != k.value)
    throw Error{ErrorKind::bad_input,
                fmt::format("weight_shape says ({}, {}), not ({}, {})", integer_at(shape, 0),
                            integer_at(shape, 1), n.value, k.value)};
  if (scheme.zero_points == ZeroPoints::integer) {
    const std::span<const std::byte> words = part_of(parts, "weight_zero_point").data;
    const std::int64_t groups = out.scales.rows();
    for (Eigen::Index col = 0; col < out.codes.cols(); ++col)
      for (Eigen::Index group = 0; group < groups; ++group)
        out.zero_points(group, col) =
            static_cast<std::int16_t>(zero_at(words, groups, group, window.first + col, packing));
  }
  if (scheme.act_order)
    within("weight_g_idx", [&] { read_g_idx(part_of(parts, "weight_g_idx"), geometry, out); });
}

void write(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  const Scheme& scheme = geometry.scheme;
  const K k = geometry.k;
  const N n = geometry.n;
  const ColumnWindow window = window_of(q, geometry);
  const PartBuffer& packed = part_of(out, "weight_packed");
  const auto zeros = out.find("weight_zero_point"), g_idx = out.find("weight_g_idx");
  Widths widths{packed.shape.at(1), {}};
  if (zeros != out.end()) widths.zeros = zeros->second.shape.at(0);
  Packing packing{scheme.type.bits, WordFields::dense};
  if (!fits(packing, widths, k, n)) packing.fields = WordFields::legacy;
  within("weight_packed",
         [&] { pack_fields(q.codes, packing.bits, packing.fields, window.first, packed.data); });
  within("weight_scale", [&] {
    store_scales(q.scales, scheme.scale_dtype, ct_scale_grid(scheme, k), window,
                 part_of(out, "weight_scale").data);
  });
  if (scheme.zero_points == ZeroPoints::integer) {
    const std::int64_t groups = q.scales.rows();
    for (Eigen::Index col = 0; col < q.codes.cols(); ++col)
      for (Eigen::Index group = 0; group < groups; ++group) {
        const int zero = q.zero_points(group, col);
        if (zero < 0 || zero > scheme.type.max_code())
          throw Error{ErrorKind::unsupported,
                      fmt::format("the zero point of group {}, column {} is {}; ct-pack-quantized stores 0 "
                                  "to {}",
                                  group, window.first + col, zero, scheme.type.max_code())};
        add_zero(part_of(out, "weight_zero_point").data, groups, group, window.first + col, packing,
                 static_cast<std::uint32_t>(zero));
      }
  }
  if (window.first != 0) return;
  const PartBuffer& shape = part_of(out, "weight_shape");
  const std::array<std::int64_t, 2> extents{n.value, k.value};
  for (std::size_t i = 0; i < extents.size(); ++i)
    if (shape.dtype == DType::I64) {
      std::memcpy(shape.data.data() + 8 * i, &extents[i], sizeof extents[i]);
    } else {
      store_word(shape.data, static_cast<std::int64_t>(i), static_cast<std::uint32_t>(extents[i]));
    }
  if (g_idx != out.end()) write_g_idx(q, geometry, g_idx->second);
}

}  // namespace

WeightFormat ct_pack_quantized() {
  return {.name = "ct-pack-quantized",
          .family = "compressed-tensors",
          .summary = "compressed-tensors' packed integers: 2 to 8 bit, any zero points and groups",
          .suffixes = {"weight_packed", "weight_scale", "weight_shape"},
          .recognize = recognize,
          .read = read,
          .refusal = refusal,
          .specs = specs,
          .write = write,
          .quantization_config = compressed_tensors_config};
}

}  // namespace mpk::formats
