#include "verify/marlin_decoders.hpp"

#include <cmath>

#include "packer/format/float16.hpp"
#include "verify/elements.hpp"

namespace mpk {
namespace {

using Bytes = Elements<std::uint8_t>;
using Floats = Elements<float>;

std::uint32_t field(std::uint32_t word, std::int64_t index, int bits) {
  return (word >> (index * bits)) & ((1u << bits) - 1u);
}

/// The lane that holds B(k, n) of mma.m16n8k16: eight lanes-of-four along n, two consecutive k per lane.
std::int64_t lane(std::int64_t k, std::int64_t n) {
  return n % 8 * 4 + k % 8 / 2;
}

/// 16-bit activations. Four blocks of 16 columns side by side; of each, columns n and n + 8, rows k and k
/// + 8.
std::uint32_t dense_code(const Words& words, int bits, std::int64_t columns, std::int64_t k, std::int64_t n) {
  if (bits == 4) {
    const std::int64_t word = k / 16 * columns * 2 + n / 64 * 128 + lane(k, n) * 4 + n % 64 / 16;
    return field(words[word], k % 2 * 4 + n % 16 / 8 * 2 + k % 16 / 8, 4);
  }
  const std::int64_t word =
      k / 16 * columns * 4 + n / 64 * 256 + lane(k, n) * 8 + n % 64 / 16 * 2 + n % 16 / 8;
  return field(words[word], k % 2 * 2 + k % 16 / 8, 8);
}

/// 8-bit activations: B(k, n) of mma.m16n8k32, four consecutive k per lane; four blocks of eight columns.
std::uint32_t a8_code(const Words& words, int bits, std::int64_t columns, std::int64_t k, std::int64_t n) {
  const std::int64_t tile = k / 32 * (columns / 32) + n / 32, owner = n % 8 * 4 + k % 16 / 4,
                     block = n % 32 / 8, upper = k % 32 / 16;
  return bits == 4 ? field(words[tile * 128 + owner * 4 + block], k % 4 * 2 + upper, 4)
                   : field(words[tile * 256 + owner * 8 + block * 2 + upper], k % 4, 8);
}

/// 2:4: the weights are operand A, so eight columns stand across the lanes and four beside each other.
std::uint32_t sparse_code(const Words& words, int bits, std::int64_t columns, std::int64_t row,
                          std::int64_t n) {
  const std::int64_t owner = n % 64 / 8 * 4 + row % 8 / 2, upper = n % 8 / 4;
  return bits == 4 ? field(words[row / 16 * columns * 2 + n / 64 * 128 + owner * 4 + n % 4],
                           row % 16 / 8 + 2 * upper + row % 2 * 4, 4)
                   : field(words[row / 16 * columns * 4 + n / 64 * 256 + owner * 8 + n % 4 * 2 + upper],
                           row % 16 / 8 + row % 2 * 2, 8);
}

/// The eight scales of n % 8 stand together.
std::int64_t grouped(std::int64_t n) {
  return n / 64 * 64 + n % 8 * 8 + n % 64 / 8;
}
/// The pairs (n, n + 1) that one accumulator lane owns stand together.
std::int64_t single(std::int64_t n) {
  return n / 32 * 32 + n % 8 / 2 * 8 + n % 32 / 8 * 2 + n % 2;
}
std::int64_t grouped_quad(std::int64_t n) {
  const std::int64_t at = grouped(n), in_four = at % 4;
  return at - in_four + (in_four == 1 ? 2 : in_four == 2 ? 1 : in_four);
}
std::int64_t sparse(std::int64_t n) {
  return n / 8 * 8 + n % 4 * 2 + n % 8 / 4;
}
std::int64_t plain(std::int64_t n) {
  return n;
}

std::uint32_t zero_point(const Words& zeros, int bits, bool a8, std::int64_t row_words, std::int64_t group,
                         std::int64_t n) {
  const std::int64_t j = n % 64 / 8;
  if (bits == 4) return field(zeros[group * row_words + n / 64 * 8 + n % 8], a8 ? j : j / 2 + j % 2 * 4, 4);
  constexpr std::int64_t kByte[] = {0, 2, 1, 3};
  return field(zeros[group * row_words + n / 64 * 16 + n % 8 * 2 + j / 4], kByte[j % 4], 8);
}

/// Five bits of exponent with bias 15, three of mantissa.
float e5m3(std::uint8_t byte) {
  const int exponent = byte >> 3, mantissa = byte & 7;
  return exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -17)
                       : std::ldexp(static_cast<float>(8 + mantissa), exponent - 18);
}

float half(std::uint16_t bits, DType dtype) {
  return dtype == DType::BF16 ? bf16_to_float(bits) : f16_to_float(bits);
}

template <class CodeAt>
void fill_codes(QuantizedMatrix& q, CodeAt code_at) {
#pragma omp parallel for schedule(static)
  for (std::int64_t n = 0; n < q.codes.cols(); ++n)
    for (std::int64_t k = 0; k < q.codes.rows(); ++k)
      q.codes(k, n) = static_cast<std::uint8_t>(code_at(k, n));
}

/// Scales of 16 bits, 2^exponent times too large.
void fill_scales(QuantizedMatrix& q, const PartViews& parts, const char* suffix, int exponent,
                 std::int64_t (*column)(std::int64_t)) {
  const Halves scales(parts, suffix, q.scales.size());
  for (std::int64_t n = 0; n < q.scales.cols(); ++n)
    for (std::int64_t group = 0; group < q.scales.rows(); ++group)
      q.scales(group, n) =
          std::ldexp(half(scales[group * q.scales.cols() + column(n)], q.scheme.scale_dtype), -exponent);
}

/// Scales of a byte, which `value` reads.
template <class Value>
void fill_byte_scales(QuantizedMatrix& q, const PartViews& parts, std::int64_t (*column)(std::int64_t),
                      Value value) {
  const Bytes scales(parts, "scales", q.scales.size());
  for (std::int64_t n = 0; n < q.scales.cols(); ++n)
    for (std::int64_t group = 0; group < q.scales.rows(); ++group)
      q.scales(group, n) = value(scales[group * q.scales.cols() + column(n)]);
}

/// In the kernels' order of groups, even if there is one.
void fill_float_zeros(QuantizedMatrix& q, const PartViews& parts) {
  const Halves zeros(parts, "qzeros", q.float_zeros.size());
  for (std::int64_t n = 0; n < q.float_zeros.cols(); ++n)
    for (std::int64_t group = 0; group < q.float_zeros.rows(); ++group)
      q.float_zeros(group, n) = half(zeros[group * q.float_zeros.cols() + grouped(n)], q.scheme.scale_dtype);
}

void fill_zeros(QuantizedMatrix& q, const PartViews& parts, bool a8) {
  if (q.scheme.zero_points == ZeroPoints::floating) return fill_float_zeros(q, parts);
  if (q.scheme.zero_points != ZeroPoints::integer) return;
  const int bits = q.scheme.type.bits;
  const std::int64_t row_words = q.codes.cols() * bits / 32;
  const Words zeros(parts, "qzeros", q.scales.rows() * row_words);
  for (std::int64_t n = 0; n < q.zero_points.cols(); ++n)
    for (std::int64_t group = 0; group < q.zero_points.rows(); ++group)
      q.zero_points(group, n) = static_cast<std::int16_t>(zero_point(zeros, bits, a8, row_words, group, n));
}

QuantizedMatrix dense(const PartViews& parts, const char* weight, const char* scale, const Scheme& scheme,
                      K k, N n) {
  QuantizedMatrix q = make_matrix(scheme, k, n);
  const int bits = scheme.type.bits;
  const Words words(parts, weight, k.value * n.value * bits / 32);
  fill_codes(q,
             [&](std::int64_t row, std::int64_t col) { return dense_code(words, bits, n.value, row, col); });
  if (scheme.scale_dtype == DType::F8_E4M3) {
    fill_byte_scales(q, parts, grouped_quad, [](std::uint8_t byte) { return std::ldexp(e5m3(byte), -7); });
  } else if (scheme.scale_dtype == DType::F8_E8M0) {
    fill_byte_scales(q, parts, grouped_quad, [](std::uint8_t byte) { return std::ldexp(1.0f, byte - 127); });
  } else {
    const int exponent = scheme.type != kE4M3 ? 0 : scheme.scale_dtype == DType::F16 ? 8 : 120;
    fill_scales(q, parts, scale, exponent, q.scales.rows() > 1 ? grouped : single);
  }
  return q;
}

}  // namespace

QuantizedMatrix decode_marlin(const PartViews& parts, const Scheme& scheme, K k, N n) {
  QuantizedMatrix q = dense(parts, "qweight", "scales", scheme, k, n);
  fill_zeros(q, parts, false);
  if (scheme.global_scale != GlobalScale::none) {
    const float stored = Floats(parts, "global_scale", 1)[0];
    q.global_scale = std::ldexp(stored, scheme.activations == DType::BF16 ? -119 : -7);
  }
  if (scheme.act_order) {
    const Words groups(parts, "g_idx", k.value), perm(parts, "perm", k.value);
    const Codes packed = q.codes;
    for (std::int64_t row = 0; row < k.value; ++row) {
      const std::int64_t original = perm[row];
      if (original >= k.value)
        throw Error{ErrorKind::mismatch, fmt::format("perm names row {} of {}", original, k.value)};
      q.g_idx[static_cast<std::size_t>(original)] = static_cast<std::int32_t>(groups[row]);
      q.codes.row(original) = packed.row(row);
    }
  }
  return q;
}

QuantizedMatrix decode_marlin_original(const PartViews& parts, const Scheme& scheme, K k, N n) {
  return dense(parts, "B", "s", scheme, k, n);
}

QuantizedMatrix decode_marlin_a8(const PartViews& parts, const Scheme& scheme, K k, N n) {
  QuantizedMatrix q = make_matrix(scheme, k, n);
  const int bits = scheme.type.bits;
  const bool mx = scheme.type == kE2M1,
             recoded = bits == 4 && !mx && scheme.activations.value_or(DType::F8_E4M3) == DType::F8_E4M3;
  const Words words(parts, "qweight", k.value * n.value * bits / 32);
  fill_zeros(q, parts, true);
  const std::int64_t rows = scheme.rows_per_group(k);
  fill_codes(q, [&](std::int64_t row, std::int64_t col) {
    const auto code = static_cast<int>(a8_code(words, bits, n.value, row, col));
    if (!recoded) return code;
    const int zero = q.zero_points.size() > 0 ? q.zero_points(row / rows, col) : 8;
    return zero + code < 16 ? zero + code : 15 - code;
  });
  if (mx) {
    fill_byte_scales(q, parts, single, [](std::uint8_t byte) { return std::ldexp(1.0f, byte - 127 - 6); });
  } else {
    fill_scales(q, parts, "scales", recoded ? 9 : 0, single);
  }
  return q;
}

QuantizedMatrix decode_marlin_24(const PartViews& parts, const Scheme& scheme, K k, N n) {
  QuantizedMatrix q = make_matrix(scheme, k, n);
  const int bits = scheme.type.bits;
  const Words words(parts, "B_24", k.value / 2 * n.value * bits / 32);
  const Halves meta(parts, "B_meta", k.value / 16 * n.value);
  fill_codes(q, [&](std::int64_t row, std::int64_t col) {
    const std::int64_t quad = row / 4, c = quad / 4;
    const std::int64_t at = c / 2 * 2 * n.value + col / 64 * 128 + col / 2 % 2 * 64 + col / 8 % 8 * 8 +
                            col % 2 * 4 + c % 2 * 2 + col / 4 % 2;
    const std::uint32_t kept = field(meta[at], quad % 4, 4);
    for (std::int64_t which = 0; which < 2; ++which)
      if (field(kept, which, 2) == row % 4) return sparse_code(words, bits, n.value, 2 * quad + which, col);
    return static_cast<std::uint32_t>(scheme.type.bias);
  });
  fill_scales(q, parts, "s", 0, q.scales.rows() > 1 ? sparse : plain);
  return q;
}

}  // namespace mpk
