// "gptq" and "gptq-v2": what AutoGPTQ and GPTQModel write. They differ in one thing: version 1 stores every
// zero point less one.

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/formats/formats.hpp"
#include "packer/formats/g_idx.hpp"
#include "packer/pack.hpp"
#include "packer/scales.hpp"

namespace mpk::formats {
namespace {

/// What version 1 takes off a zero point before it stores it.
constexpr int kOffsetV1 = 1, kOffsetV2 = 0;

std::optional<std::string> refusal(const Scheme& scheme, K k, N n) {
  if (auto why = integer_refusal("gptq", scheme, k, n)) return why;
  if (const int b = scheme.type.bits; b != 2 && b != 3 && b != 4 && b != 8)
    return fmt::format("gptq has 2, 3, 4 and 8 bits, not {}", b);
  if (k.value % 32 != 0 || n.value % 32 != 0)
    return fmt::format(
        "gptq needs K % 32 == 0 and N % 32 == 0; here K = {} (% 32 = {}), N = {} (% 32 = {}); leave the "
        "module unquantized",
        k.value, k.value % 32, n.value, n.value % 32);
  return std::nullopt;
}

std::vector<PartSpec> specs(const Scheme& scheme, K k, N n) {
  const std::int64_t groups = scheme.groups(k).value, bits = scheme.type.bits;
  return {{"qweight", DType::I32, {k.value * bits / 32, n.value}},
          {"qzeros", DType::I32, {groups, n.value * bits / 32}},
          {"scales", scheme.scale_dtype, {groups, n.value}},
          {"g_idx", DType::I32, {k.value}}};
}

bool is_word(DType dtype) {
  return dtype == DType::I32 || dtype == DType::U32;
}

/// The one value of every field, if there is one.
std::optional<std::uint32_t> constant_field(const TensorView& qzeros, int bits) {
  const std::int64_t count = std::ssize(qzeros.data) * 8 / bits;
  const std::uint32_t first = stream_element(qzeros.data, 0, bits);
  for (std::int64_t i = 1; i < count; ++i)
    if (stream_element(qzeros.data, i, bits) != first) return std::nullopt;
  return first;
}

template <int kOffset>
std::optional<Geometry> recognize(const PartViews& parts, const Claims& claims) {
  if (!has_exactly(parts, {"qweight", "qzeros", "scales"}, {"g_idx"})) return std::nullopt;
  if (claims.method == "awq" || !is_word(part_of(parts, "qweight").dtype)) return std::nullopt;
  const Extents qweight = matrix_extents(parts, "qweight"), qzeros = matrix_extents(parts, "qzeros"),
                scales = matrix_extents(parts, "scales");
  if (!has_part(parts, "g_idx") && scales.cols != qweight.cols) return std::nullopt;  // AWQ
  const auto fail = [](const std::string& what) { throw Error{ErrorKind::bad_input, what}; };
  for (const char* dialect : {"gptq_p", "bitblas", "qqq", "exl2", "exl3", "gguf"})
    if (claims.dialect == dialect)
      throw Error{
          ErrorKind::unsupported,
          fmt::format("checkpoint_format {} is another packing than gptq's and is not read", dialect)};
  const N n{qweight.cols};
  if (scales.cols != n.value)
    fail(fmt::format("scales have {} columns, qweight {}", scales.cols, qweight.cols));
  if (qzeros.cols * 32 % n.value != 0)
    fail(fmt::format("qzeros ({}, {}) do not make a whole number of bits per zero of {} columns", qzeros.rows,
                     qzeros.cols, n.value));
  const std::int64_t bits = qzeros.cols * 32 / n.value;
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
    fail(fmt::format("the shapes say {} bits per code; gptq has 2, 3, 4 and 8", bits));
  if (qweight.rows * 32 % bits != 0)
    fail(fmt::format("qweight ({}, {}) does not make a whole number of {}-bit codes", qweight.rows,
                     qweight.cols, bits));
  if (qzeros.rows != scales.rows)
    fail(fmt::format("qzeros have {} groups, scales {}", qzeros.rows, scales.rows));

  Geometry found{{}, K{qweight.rows * 32 / bits}, n};
  Scheme& scheme = found.scheme;
  scheme.scale_dtype = part_of(parts, "scales").dtype;
  scheme.group_size = group_size_of(found.k, scales.rows, claims);
  scheme.type = symmetric_integer(static_cast<int>(bits));
  std::vector<PartSpec> expected = specs(scheme, found.k, found.n);
  expected[1].shape[0] = expected[2].shape[0] = scales.rows;
  if (!has_part(parts, "g_idx")) {
    expected.pop_back();
  } else if (part_of(parts, "g_idx").dtype == DType::I64) {
    expected.back().dtype = DType::I64;
  }
  require(parts, expected);

  // Symmetric zeros tell the version, whatever the configuration says; others leave it to the claim.
  const auto field = constant_field(part_of(parts, "qzeros"), static_cast<int>(bits));
  const auto middle = static_cast<std::uint32_t>(scheme.type.bias);
  const bool symmetric = field && (*field == middle || *field + 1 == middle);
  const int offset =
      symmetric ? static_cast<int>(middle - *field) : (claims.dialect == "gptq_v2" ? kOffsetV2 : kOffsetV1);
  if (offset != kOffset) return std::nullopt;
  if (!symmetric) {
    scheme.type = unsigned_integer(static_cast<int>(bits));
    scheme.zero_points = ZeroPoints::integer;
  }
  scheme.act_order = has_part(parts, "g_idx") &&
                     is_scrambled(part_of(parts, "g_idx"), found.k, scales.rows, scheme.group_size);
  return found;
}

template <int kOffset>
void read(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const Scheme& scheme = geometry.scheme;
  const N n = geometry.n;
  const ColumnWindow window = window_of(out, geometry);
  within("qweight", [&] {
    unpack_along_k(part_of(parts, "qweight").data, scheme.type.bits, WordGrid::down(n), window.first,
                   out.codes);
  });
  within("scales", [&] {
    load_scales(part_of(parts, "scales").data, scheme.scale_dtype, ScaleGrid::rows(n), window, out.scales);
  });
  const std::span<const std::byte> qzeros = part_of(parts, "qzeros").data;
  const int bits = scheme.type.bits;
  for (Eigen::Index group = 0; group < out.scales.rows(); ++group)
    for (Eigen::Index col = 0; col < out.codes.cols(); ++col) {
      const std::uint32_t stored = stream_element(qzeros, group * n.value + window.first + col, bits);
      const int zero = static_cast<int>(stored) + kOffset;
      if (scheme.zero_points == ZeroPoints::integer) {
        out.zero_points(group, col) = static_cast<std::int16_t>(zero);
      } else if (zero != scheme.type.bias) {
        throw Error{ErrorKind::bad_input,
                    fmt::format("qzeros: group {}, column {} stores {}, symmetric {}-bit zeros are {} in "
                                "version {}",
                                group, window.first + col, stored, bits, scheme.type.bias - kOffset,
                                kOffset == kOffsetV1 ? 1 : 2)};
      }
    }
  if (has_part(parts, "g_idx")) read_g_idx(part_of(parts, "g_idx"), geometry, out);
}

template <int kOffset>
void write(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  const Scheme& scheme = geometry.scheme;
  const N n = geometry.n;
  const ColumnWindow window = window_of(q, geometry);
  within("qweight", [&] {
    pack_along_k(q.codes, scheme.type.bits, WordGrid::down(n), window.first, part_of(out, "qweight").data);
  });
  const std::span<std::byte> qzeros = part_of(out, "qzeros").data;
  const int bits = scheme.type.bits;
  for (Eigen::Index group = 0; group < q.scales.rows(); ++group)
    for (Eigen::Index col = 0; col < q.codes.cols(); ++col) {
      const int zero =
          scheme.zero_points == ZeroPoints::integer ? q.zero_points(group, col) : scheme.type.bias;
      if (zero < kOffset || zero > (1 << bits) - 1 + kOffset)
        throw Error{
            ErrorKind::unsupported,
            fmt::format("the zero point of group {}, column {} is {}; gptq version {} stores {} to {}", group,
                        window.first + col, zero, kOffset == kOffsetV1 ? 1 : 2, kOffset,
                        (1 << bits) - 1 + kOffset)};
      add_stream_element(qzeros, group * n.value + window.first + col, bits,
                         static_cast<std::uint32_t>(zero - kOffset));
    }
  within("scales", [&] {
    store_scales(q.scales, scheme.scale_dtype, ScaleGrid::rows(n), window, part_of(out, "scales").data);
  });
  const auto g_idx = out.find("g_idx");
  if (g_idx != out.end() && window.first == 0) write_g_idx(q, geometry, g_idx->second);
}

}  // namespace

WeightFormat gptq() {
  return {
      .name = "gptq",
      .family = "gptq",
      .summary = "GPTQ version 1: 2, 3, 4 and 8 bit, what nearly every engine loads",
      .suffixes = {"qweight", "qzeros", "scales", "g_idx"},
      .lowest_zero = 1,
      .recognize = recognize<kOffsetV1>,
      .read = read<kOffsetV1>,
      .refusal = refusal,
      .specs = specs,
      .write = write<kOffsetV1>,
      .quantization_config = [](const CheckpointSchemes& schemes) { return gptq_config("gptq", schemes); }};
}

WeightFormat gptq_v2() {
  return {.name = "gptq-v2",
          .family = "gptq-v2",
          .summary = "GPTQ version 2: the same with zero points as they are, 0 included",
          .suffixes = {"qweight", "qzeros", "scales", "g_idx"},
          .recognize = recognize<kOffsetV2>,
          .read = read<kOffsetV2>,
          .refusal = refusal,
          .specs = specs,
          .write = write<kOffsetV2>,
          .quantization_config = [](const CheckpointSchemes& schemes) {
            return gptq_config("gptq_v2", schemes);
          }};
}

}  // namespace mpk::formats
