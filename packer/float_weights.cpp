#include "packer/float_weights.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/float16.hpp"
#include "packer/format/float_bits.hpp"

namespace mpk {
namespace {

// Everything below is arithmetic without branches, which the compiler turns into vector instructions; a
// column passes in pieces through buffers that stay in the first-level cache.
constexpr int kPiece = 512;
/// Runs that share a scale are 16 codes or more, nearly always a multiple.
constexpr int kStep = 16;

/// a ? b : c. As a mask, since the compiler does not make vectors of a conditional float.
std::uint32_t select(bool a, std::uint32_t b, std::uint32_t c) {
  const std::uint32_t mask = 0u - static_cast<std::uint32_t>(a);
  return (b & mask) | (c & ~mask);
}

/// The float with these bits. Its exponent and mantissa move to float32's place; a subnormal m * 2^(1 - bias)
/// is read as (1 + m) * 2^(1 - bias), and 2^(1 - bias) taken off.
template <int kMantissa, int kBias, int kBits>
float small_float(std::uint8_t code) {
  constexpr std::uint32_t kExponent = static_cast<std::uint32_t>(127 - kBias) << 23, kOne = 1u << 23;
  const std::uint32_t magnitude = code & ((1u << (kBits - 1)) - 1);
  const bool subnormal = magnitude < (1u << kMantissa);
  const std::uint32_t shifted = (magnitude << (23 - kMantissa)) + kExponent + select(subnormal, kOne, 0);
  const float value =
      std::bit_cast<float>(shifted) - std::bit_cast<float>(select(subnormal, kExponent + kOne, 0));
  const std::uint32_t sign = static_cast<std::uint32_t>(code >> (kBits - 1)) << 31;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
}

template <Encoding kEncoding>
float value_of(std::uint8_t code, int bias) {
  if constexpr (kEncoding == Encoding::e4m3) return small_float<3, 7, 8>(code);
  if constexpr (kEncoding == Encoding::e2m1) return small_float<1, 1, 4>(code);
  return static_cast<float>(int{code} - bias);
}

/// (value - zero) * scale, or / scale, for a run that shares them.
template <Encoding kEncoding, bool kDivide>
void scale_run(const std::uint8_t* codes, int count, int bias, float zero, float scale, float* out) {
  const auto weight = [=](std::uint8_t code) {
    const float value = value_of<kEncoding>(code, bias) - zero;
    return kDivide ? value / scale : value * scale;
  };
  int i = 0;
  for (; i + kStep <= count; i += kStep)
#pragma GCC ivdep  // codes and out are different memory
    for (int j = 0; j < kStep; ++j) out[i + j] = weight(codes[i + j]);
  for (; i < count; ++i) out[i] = weight(codes[i]);
}

float zero_of(const QuantizedMatrix& q, Eigen::Index group, Eigen::Index n) {
  if (q.scheme.zero_points == ZeroPoints::integer) return q.zero_points(group, n);
  if (q.scheme.zero_points == ZeroPoints::floating) return q.float_zeros(group, n);
  return 0;
}

/// Rows k0 .. k0 + count of column n as floats, the global scale aside.
template <Encoding kEncoding, bool kDivide>
void scale_piece(const QuantizedMatrix& q, Eigen::Index n, Eigen::Index k0, int count, float* out) {
  const std::uint8_t* codes = q.codes.data() + n * q.codes.rows() + k0;
  const int bias = q.scheme.type.bias;
  if (q.scheme.act_order) {
    for (int i = 0; i < count; ++i) {
      const Eigen::Index group = q.g_idx[static_cast<std::size_t>(k0 + i)];
      scale_run<kEncoding, kDivide>(codes + i, 1, bias, zero_of(q, group, n), q.scales(group, n), out + i);
    }
    return;
  }
  const std::int64_t rows = q.scheme.rows_per_group(q.k());
  Eigen::Index group = k0 / rows;
  for (int i = 0; i < count; ++group) {
    const int end = static_cast<int>(std::min<std::int64_t>(count, (group + 1) * rows - k0));
    scale_run<kEncoding, kDivide>(codes + i, end - i, bias, zero_of(q, group, n), q.scales(group, n),
                                  out + i);
    i = end;
  }
}

using ScalePiece = void (*)(const QuantizedMatrix&, Eigen::Index, Eigen::Index, int, float*);

template <Encoding kEncoding>
ScalePiece scale_piece_for(bool divide) {
  return divide ? scale_piece<kEncoding, true> : scale_piece<kEncoding, false>;
}

ScalePiece scale_piece_for(const Scheme& scheme) {
  switch (scheme.type.encoding) {
    case Encoding::e2m1:
      return scale_piece_for<Encoding::e2m1>(scheme.scales_divide);
    case Encoding::e4m3:
      return scale_piece_for<Encoding::e4m3>(scheme.scales_divide);
    case Encoding::integer:
      break;
  }
  return scale_piece_for<Encoding::integer>(scheme.scales_divide);
}

/// float_to_f16 with all its cases computed and one selected.
std::uint16_t select_f16(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  const std::uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  std::uint32_t bits = select(magnitude < 0x38800000u, subnormal, normal);
  bits = select(magnitude >= 0x477ff000u, 0x7c00u, bits);
  bits = select(magnitude > 0x7f800000u, 0x7e00u, bits);
  return static_cast<std::uint16_t>(bits | ((u >> 16) & 0x8000u));
}

/// float_to_bf16, likewise.
std::uint16_t select_bf16(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, nan = (u >> 16) | 0x40u;
  return static_cast<std::uint16_t>(select((u & 0x7fffffffu) > 0x7f800000u, nan, rounded));
}

void round_piece(const float* values, int count, DType dtype, std::byte* out) {
  if (dtype == DType::F32) {
    std::memcpy(out, values, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  std::uint16_t bits[kPiece];
  if (dtype == DType::F16) {
    for (int i = 0; i < count; ++i) bits[i] = select_f16(values[i]);
  } else {
    for (int i = 0; i < count; ++i) bits[i] = select_bf16(values[i]);
  }
  std::memcpy(out, bits, static_cast<std::size_t>(count) * sizeof *bits);
}

}  // namespace

DType float_dtype_of(const Scheme& scheme, DType model_dtype) {
  const DType own = scheme.scale_dtype;
  return own == DType::F16 || own == DType::BF16 || own == DType::F32 ? own : model_dtype;
}

void write_float_weights(const QuantizedMatrix& q, DType dtype, N total, std::span<std::byte> out) {
  if (dtype != DType::F32 && dtype != DType::F16 && dtype != DType::BF16)
    throw Error{ErrorKind::unsupported,
                fmt::format("weights become F32, F16 or BF16, not {}", info(dtype).name)};
  const auto rows = static_cast<std::size_t>(q.codes.rows()), size = bytes_of(dtype);
  if (q.first_column < 0 || q.first_column + q.codes.cols() > total.value ||
      out.size() != static_cast<std::size_t>(total.value) * rows * size)
    throw Error{
        ErrorKind::bad_input,
        fmt::format("columns {} to {} of ({}, {}) {} weights do not lie in {} bytes", q.first_column,
                    q.first_column + q.codes.cols(), total.value, rows, info(dtype).name, out.size())};
  const ScalePiece scale = scale_piece_for(q.scheme);
#pragma omp parallel for schedule(static)
  for (Eigen::Index n = 0; n < q.codes.cols(); ++n) {
    float values[kPiece];
    std::byte* to = out.data() + static_cast<std::size_t>(q.first_column + n) * rows * size;
    for (Eigen::Index k = 0; k < q.codes.rows(); k += kPiece) {
      const int count = static_cast<int>(std::min<Eigen::Index>(kPiece, q.codes.rows() - k));
      scale(q, n, k, count, values);
      if (q.scheme.global_scale == GlobalScale::multiplies)
        for (int i = 0; i < count; ++i) values[i] *= q.global_scale;
      if (q.scheme.global_scale == GlobalScale::divides)
        for (int i = 0; i < count; ++i) values[i] /= q.global_scale;
      round_piece(values, count, dtype, to + static_cast<std::size_t>(k) * size);
    }
  }
}

void write_float_weights_transposed(const QuantizedMatrix& q, DType dtype, N total,
                                    std::span<std::byte> out) {
  // A row-major (columns, K) piece at a time, then its elements to their rows: the output's rows are far
  // apart.
  const std::size_t size = bytes_of(dtype), rows = static_cast<std::size_t>(q.codes.rows());
  if (q.first_column < 0 || q.first_column + q.codes.cols() > total.value ||
      out.size() != static_cast<std::size_t>(total.value) * rows * size)
    throw Error{ErrorKind::bad_input, fmt::format("({}, {}) {} weights do not lie in {} bytes", rows,
                                                  total.value, info(dtype).name, out.size())};
  QuantizedMatrix alone = q;
  alone.first_column = 0;
  const auto columns = static_cast<std::size_t>(q.codes.cols());
  std::vector<std::byte> piece(columns * rows * size);
  write_float_weights(alone, dtype, N{q.codes.cols()}, piece);
  for (std::size_t k = 0; k < rows; ++k)
    for (std::size_t n = 0; n < columns; ++n)
      std::memcpy(out.data() + (k * static_cast<std::size_t>(total.value) +
                                static_cast<std::size_t>(q.first_column) + n) *
                                   size,
                  piece.data() + (n * rows + k) * size, size);
}

}  // namespace mpk
