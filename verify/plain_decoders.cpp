#include "verify/plain_decoders.hpp"

#include <bit>
#include <cmath>
#include <optional>

#include "packer/format/float16.hpp"
#include "verify/elements.hpp"

namespace mpk {
namespace {

/// `count` floats of 16 or 32 bits.
class Floats {
 public:
  Floats(const PartViews& parts, const char* suffix, DType dtype, std::int64_t count) : dtype_{dtype} {
    if (dtype == DType::F32) {
      words_.emplace(parts, suffix, count);
    } else {
      halves_.emplace(parts, suffix, count);
    }
  }
  float operator[](std::int64_t i) const {
    if (words_) return std::bit_cast<float>((*words_)[i]);
    const std::uint16_t bits = (*halves_)[i];
    return dtype_ == DType::BF16 ? bf16_to_float(bits) : f16_to_float(bits);
  }

 private:
  DType dtype_;
  std::optional<Words> words_;
  std::optional<Halves> halves_;
};

/// Fills in the codes, the scales and, if the scheme has them, the zero points.
template <class CodeAt, class ScaleAt, class ZeroAt>
QuantizedMatrix gather(const Scheme& scheme, K k, N n, CodeAt code_at, ScaleAt scale_at, ZeroAt zero_at) {
  QuantizedMatrix q = make_matrix(scheme, k, n);
#pragma omp parallel for schedule(static)
  for (std::int64_t col = 0; col < n.value; ++col) {
    for (std::int64_t row = 0; row < k.value; ++row)
      q.codes(row, col) = static_cast<std::uint8_t>(code_at(row, col));
    for (std::int64_t group = 0; group < q.scales.rows(); ++group) {
      q.scales(group, col) = scale_at(group, col);
      if (scheme.zero_points == ZeroPoints::integer)
        q.zero_points(group, col) = static_cast<std::int16_t>(zero_at(group, col));
    }
  }
  return q;
}

/// Nibble of a word for each of its eight columns.
constexpr int kAwqNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

std::uint32_t nibble(std::uint32_t word, std::int64_t i) {
  return word >> (4 * i) & 15u;
}

/// Groups as gemv pads them: words of eight zero points, in ones, twos or fours.
std::int64_t gemv_groups(const Scheme& scheme, K k) {
  const std::int64_t size = scheme.rows_per_group(k), words = (scheme.groups(k).value + 7) / 8,
                     multiple = size == 32   ? 4
                                : size == 64 ? 2
                                             : 1;
  return (words + multiple - 1) / multiple * multiple * 8;
}

/// `bits` bits from bit `first` of a stream of words that stand `stride` apart.
std::uint32_t stream_bits(const Words& words, std::int64_t start, std::int64_t stride, std::int64_t first,
                          int bits) {
  std::uint32_t value = 0;
  for (int b = 0; b < bits; ++b)
    value |= (words[start + (first + b) / 32 * stride] >> ((first + b) % 32) & 1u) << b;
  return value;
}

}  // namespace

QuantizedMatrix plain_awq(const PartViews& parts, const Scheme& scheme, K k, N n) {
  const std::int64_t groups = scheme.groups(k).value, row_words = n.value / 8;
  const Words words(parts, "qweight", k.value * row_words), zeros(parts, "qzeros", groups * row_words);
  const Floats scales(parts, "scales", scheme.scale_dtype, groups * n.value);
  return gather(
      scheme, k, n,
      [&](auto row, auto col) { return nibble(words[row * row_words + col / 8], kAwqNibble[col % 8]); },
      [&](auto group, auto col) { return scales[group * n.value + col]; },
      [&](auto group, auto col) { return nibble(zeros[group * row_words + col / 8], kAwqNibble[col % 8]); });
}

QuantizedMatrix plain_awq_gemv(const PartViews& parts, const Scheme& scheme, K k, N n) {
  const std::int64_t padded = gemv_groups(scheme, k);
  const Words words(parts, "qweight", n.value * k.value / 8), zeros(parts, "qzeros", n.value * padded / 8);
  const Floats scales(parts, "scales", scheme.scale_dtype, n.value * padded);
  return gather(
      scheme, k, n, [&](auto row, auto col) { return nibble(words[(col * k.value + row) / 8], row % 8); },
      [&](auto group, auto col) { return scales[col * padded + group]; },
      [&](auto group, auto col) { return nibble(zeros[(col * padded + group) / 8], group % 8); });
}

QuantizedMatrix plain_awq_gemv_fast(const PartViews& parts, const Scheme& scheme, K k, N n) {
  const std::int64_t padded = gemv_groups(scheme, k);
  const Halves elements(parts, "qweight", n.value / 4 * k.value);
  const Floats scales(parts, "scales", scheme.scale_dtype, padded * n.value),
      zeros(parts, "qzeros", scheme.scale_dtype, padded * n.value);
  return gather(
      scheme, k, n,
      [&](auto row, auto col) {
        const auto u = row % 32 / 8 + 4 * (row % 2) + 8 * (row % 8 / 2);
        const auto f = col % 4 * 64 + row % 64 / 32 * 32 + u;
        return nibble(elements[col / 4 * k.value + row / 64 * 64 + f / 4], f % 4);
      },
      [&](auto group, auto col) { return scales[group * n.value + col]; },
      [&](auto group, auto col) {
        const float scale = scales[group * n.value + col];
        return scale == 0 ? 8 : static_cast<int>(std::lround(-zeros[group * n.value + col] / scale));
      });
}

QuantizedMatrix plain_ct_pack_quantized(const PartViews& parts, const Scheme& scheme, K k, N n) {
  const int bits = scheme.type.bits;
  const std::int64_t groups = scheme.groups(k).value, row_words = (k.value * bits + 31) / 32;
  const bool one_scale = scheme.columns_per_scale == Scheme::kAllColumns;
  const Words words(parts, "weight_packed", n.value * row_words);
  const Floats scales(parts, "weight_scale", scheme.scale_dtype, one_scale ? 1 : n.value * groups);
  const Elements<std::int64_t> shape(parts, "weight_shape", 2);
  if (shape[0] != n.value || shape[1] != k.value)
    throw Error{ErrorKind::mismatch, fmt::format("weight_shape says ({}, {})", shape[0], shape[1])};
  std::optional<Words> zeros, g_idx;
  if (scheme.zero_points == ZeroPoints::integer)
    zeros.emplace(parts, "weight_zero_point", (n.value * bits + 31) / 32 * groups);
  QuantizedMatrix q = gather(
      scheme, k, n,
      [&](auto row, auto col) { return stream_bits(words, col * row_words, 1, row * bits, bits); },
      [&](auto group, auto col) { return scales[one_scale ? 0 : col * groups + group]; },
      [&](auto group, auto col) { return stream_bits(*zeros, group, groups, col * bits, bits); });
  if (scheme.act_order) g_idx.emplace(parts, "weight_g_idx", k.value);
  for (std::size_t row = 0; row < q.g_idx.size(); ++row)
    q.g_idx[row] = static_cast<std::int32_t>((*g_idx)[static_cast<std::int64_t>(row)]);
  return q;
}

QuantizedMatrix plain_ct_int_quantized(const PartViews& parts, const Scheme& scheme, K k, N n) {
  const std::int64_t groups = scheme.groups(k).value;
  const bool one_scale = scheme.columns_per_scale == Scheme::kAllColumns;
  const std::int64_t num_scales = one_scale ? 1 : n.value * groups;
  const Elements<std::int8_t> weight(parts, "weight", n.value * k.value);
  const Floats scales(parts, "weight_scale", scheme.scale_dtype, num_scales);
  std::optional<Elements<std::int8_t>> zeros;
  if (scheme.zero_points == ZeroPoints::integer) zeros.emplace(parts, "weight_zero_point", num_scales);
  return gather(
      scheme, k, n, [&](auto row, auto col) { return weight[col * k.value + row] + 128; },
      [&](auto group, auto col) { return scales[one_scale ? 0 : col * groups + group]; },
      [&](auto group, auto col) { return (*zeros)[one_scale ? 0 : col * groups + group] + 128; });
}

}  // namespace mpk
