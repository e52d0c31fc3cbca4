#include "verify/float_decoders.hpp"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk {
namespace {

/// Byte by byte, so that nothing depends on alignment or on the machine's byte order.
class Bytes {
 public:
  Bytes(const PartViews& parts, const char* suffix, std::int64_t count) {
    const auto it = parts.find(suffix);
    if (it == parts.end()) throw Error{ErrorKind::mismatch, fmt::format("tensor {} is missing", suffix)};
    bytes_ = it->second.data;
    if (bytes_.size() != static_cast<std::size_t>(count))
      throw Error{ErrorKind::mismatch,
                  fmt::format("tensor {} has {} bytes, the layer needs {}", suffix, bytes_.size(), count)};
  }
  unsigned operator[](std::int64_t i) const {
    return static_cast<unsigned>(bytes_[static_cast<std::size_t>(i)]);
  }
  /// `count` bytes, the first one the lowest.
  std::uint32_t little_endian(std::int64_t first, int count) const {
    std::uint32_t value = 0;
    for (int i = 0; i < count; ++i) value |= (*this)[first + i] << (8 * i);
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
};

/// Sign, `exponent` bits and `mantissa` bits, from the definition: (-1)^s 2^(e - bias) (1 + m / 2^mantissa),
/// and without the 1 for e = 0, whose exponent is that of e = 1.
float ieee_like(std::uint32_t bits, int exponent, int mantissa) {
  const int bias = (1 << (exponent - 1)) - 1;
  const auto m = static_cast<double>(bits & ((1u << mantissa) - 1));
  const int e = static_cast<int>(bits >> mantissa & ((1u << exponent) - 1));
  const double magnitude = e == 0 ? std::ldexp(m, 1 - bias - mantissa)
                                  : std::ldexp(m + std::ldexp(1.0, mantissa), e - bias - mantissa);
  return static_cast<float>((bits >> (exponent + mantissa) & 1u) != 0 ? -magnitude : magnitude);
}

float scale_value(std::uint32_t bits, DType dtype) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  switch (dtype) {
    case DType::F8_E8M0:
      return bits == 255 ? kNaN : static_cast<float>(std::ldexp(1.0, static_cast<int>(bits) - 127));
    case DType::F8_E4M3:
      return (bits & 127) == 127 ? kNaN : ieee_like(bits, 4, 3);
    case DType::F16:
      return (bits >> 10 & 31) == 31 ? kNaN : ieee_like(bits, 5, 10);
    case DType::BF16:
      return (bits >> 7 & 255) == 255 ? kNaN : ieee_like(bits, 8, 7);
    default:
      return (bits >> 23 & 255) == 255 ? kNaN : ieee_like(bits, 8, 23);
  }
}

template <class CodeAt, class ScaleAt>
QuantizedMatrix gather(const Scheme& scheme, K k, N n, CodeAt code_at, ScaleAt scale_at) {
  QuantizedMatrix q = make_matrix(scheme, k, n);
#pragma omp parallel for schedule(static)
  for (std::int64_t col = 0; col < n.value; ++col) {
    for (std::int64_t row = 0; row < k.value; ++row)
      q.codes(row, col) = static_cast<std::uint8_t>(code_at(row, col));
    for (std::int64_t group = 0; group < q.scales.rows(); ++group)
      q.scales(group, col) = scale_at(group, col);
  }
  return q;
}

/// Blocks of `size` rows with a one-byte scale each; the codes of a column are consecutive, one or two to a
/// byte.
QuantizedMatrix blocks_of(const PartViews& parts, const char* weight, const char* scale, int bits, int size,
                          DType scale_dtype, const Scheme& scheme, K k, N n) {
  const std::int64_t row_bytes = k.value * bits / 8, blocks = k.value / size;
  const Bytes codes(parts, weight, n.value * row_bytes), scales(parts, scale, n.value * blocks);
  return gather(
      scheme, k, n,
      [&](auto row, auto col) {
        if (bits == 8) return codes[col * row_bytes + row];
        const unsigned two = codes[col * row_bytes + row / 2];
        return row % 2 == 0 ? two & 15u : two >> 4;
      },
      [&](auto block, auto col) { return scale_value(scales[col * blocks + block], scale_dtype); });
}

QuantizedMatrix nvfp4(const PartViews& parts, const char* weight, const char* global, const Scheme& scheme,
                      K k, N n) {
  QuantizedMatrix q = blocks_of(parts, weight, "weight_scale", 4, 16, DType::F8_E4M3, scheme, k, n);
  q.global_scale = scale_value(Bytes(parts, global, 4).little_endian(0, 4), DType::F32);
  return q;
}

}  // namespace

QuantizedMatrix decode_fp8(const PartViews& parts, const Scheme& scheme, K k, N n) {
  const char* name = parts.contains("weight_scale_inv") ? "weight_scale_inv" : "weight_scale";
  const auto part = parts.find(name);
  if (part == parts.end()) throw Error{ErrorKind::mismatch, fmt::format("tensor {} is missing", name)};
  const auto& [dtype, shape, data] = part->second;
  const int bytes = info(dtype).bits / 8;
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  const Bytes codes(parts, "weight", k.value * n.value), scales(parts, name, count * bytes);
  // One for the matrix, one per group of a column, or one per block.
  const std::int64_t groups = scheme.groups(k).value;
  const std::int64_t columns = count == 1                  ? n.value
                               : count == n.value * groups ? 1
                                                           : scheme.columns_per_scale;
  if (columns < 1 || count != (n.value + columns - 1) / columns * groups)
    throw Error{ErrorKind::mismatch,
                fmt::format("tensor {} holds {} scales, none of {} groups and {} columns", name, count,
                            groups, n.value)};
  return gather(
      scheme, k, n, [&](auto row, auto col) { return codes[col * k.value + row]; },
      [&](auto group, auto col) {
        const std::int64_t at = col / columns * groups + group;
        return scale_value(scales.little_endian(at * bytes, bytes), dtype);
      });
}

QuantizedMatrix decode_ct_nvfp4(const PartViews& parts, const Scheme& scheme, K k, N n) {
  return nvfp4(parts, "weight_packed", "weight_global_scale", scheme, k, n);
}

QuantizedMatrix decode_modelopt_nvfp4(const PartViews& parts, const Scheme& scheme, K k, N n) {
  return nvfp4(parts, "weight", "weight_scale_2", scheme, k, n);
}

QuantizedMatrix decode_mxfp4(const PartViews& parts, const Scheme& scheme, K k, N n) {
  return blocks_of(parts, "weight_packed", "weight_scale", 4, 32, DType::F8_E8M0, scheme, k, n);
}

QuantizedMatrix decode_mxfp8(const PartViews& parts, const Scheme& scheme, K k, N n) {
  return blocks_of(parts, "weight", "weight_scale", 8, 32, DType::F8_E8M0, scheme, k, n);
}

QuantizedMatrix decode_gpt_oss(const PartViews& parts, const Scheme& scheme, K k, N n) {
  return blocks_of(parts, "blocks", "scales", 4, 32, DType::F8_E8M0, scheme, k, n);
}

}  // namespace mpk
