#pragma once
// What the formats with floating-point codes share: codes, 8-bit scales and one global scale as they stand in
// their tensors, (N, K) or (N, groups) row-major, which is the neutral form's own order.

#include "packer/formats/formats.hpp"

namespace mpk::formats {

/// One byte per code. Throws Error{bad_input} for a NaN (0x7f, 0xff), the first one in memory order.
void read_e4m3(std::span<const std::byte> bytes, ColumnWindow window, Codes& codes);
void write_e4m3(const Codes& codes, ColumnWindow window, std::span<std::byte> out);

/// Two codes per byte, even k in the low nibble; K is a multiple of 8.
void read_e2m1(std::span<const std::byte> bytes, ColumnWindow window, Codes& codes);
void write_e2m1(const Codes& codes, ColumnWindow window, std::span<std::byte> out);

/// (N, groups) of one byte each; `dtype` is F8_E4M3 or F8_E8M0, whatever the file calls it. Throws
/// Error{bad_input} for a NaN, and for a scale that the dtype has not.
void read_byte_scales(std::span<const std::byte> bytes, DType dtype, ColumnWindow window, MatrixF& scales);
void write_byte_scales(const MatrixF& scales, DType dtype, ColumnWindow window, std::span<std::byte> out);

/// One F32 number. Throws Error{bad_input} unless it is finite, and not 0 if it divides.
void read_global_scale(const PartViews& parts, std::string_view suffix, QuantizedMatrix& out);
/// By the slab that has column 0.
void write_global_scale(const QuantizedMatrix& q, const PartBuffers& out, std::string_view suffix);

/// This type, no zero points, no act-order.
std::optional<std::string> float_refusal(const char* name, ScalarType type, const Scheme&, K, N);

/// A format whose blocks of `size` rows have 8-bit scales.
struct BlockFormat {
  const char* name;
  ScalarType type;
  GroupSize size;
  DType scale_dtype;
  GlobalScale global_scale;
};
std::optional<std::string> block_refusal(const BlockFormat&, const Scheme&, K, N);

inline Scheme scheme_of(const BlockFormat& format) {
  return {.type = format.type,
          .group_size = format.size,
          .scale_dtype = format.scale_dtype,
          .global_scale = format.global_scale};
}

/// Throws Error{unsupported} that names the first part that is none of `known`: a scale of the inputs or a
/// low-rank correction, without which the weight would be another one.
void refuse_others(const PartViews& parts, std::initializer_list<std::string_view> known);

/// The part's dtype; nullopt: no such part.
std::optional<DType> dtype_of(const PartViews& parts, std::string_view suffix);

}  // namespace mpk::formats
