// "awq" and "awq-marlin": what AutoAWQ writes as version gemm, packed along N in an order of its own, and as
// version marlin, which is the first Marlin kernel's layout under other names.

#include "packer/formats/awq.hpp"

#include <array>
#include <cstring>

#include <fmt/format.h>

#include "packer/code_block.hpp"
#include "packer/format/error.hpp"
#include "packer/formats/marlin_layout.hpp"

namespace mpk::formats {
namespace {

constexpr int kColumnsPerWord = 8;
/// Nibble p of a word holds column kColumnOfNibble[p] of its eight.
constexpr std::array kColumnOfNibble{0, 2, 4, 6, 1, 3, 5, 7};
constexpr std::array kNibbleOfColumn = [] {
  std::array<int, kColumnsPerWord> nibbles{};
  for (int p = 0; p < kColumnsPerWord; ++p) nibbles[static_cast<std::size_t>(kColumnOfNibble[p])] = p;
  return nibbles;
}();

/// Words of a block, those of eight columns one below the other: so the loops over k run along memory.
constexpr int kBlockWords = kBlockCols / kColumnsPerWord;
using WordBlock = std::array<std::uint32_t, kBlockRows * kBlockWords>;

/// Byte offset of the word that holds the column n of the row k.
std::int64_t word_offset(std::int64_t k, std::int64_t n, N total) {
  return (k * total.value + n) / kColumnsPerWord * 4;
}

void pack_gemm(const Codes& codes, ColumnWindow window, std::span<std::byte> out) {
  for_each_block(codes, kU4, window.first, [&](const CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    WordBlock words;
    const int words_per_row = block.cols / kColumnsPerWord;
    for (int w = 0; w < words_per_row; ++w) {
      const std::uint8_t* first = block.codes.data() + w * kColumnsPerWord * kBlockRows;
      std::uint32_t* to = words.data() + w * kBlockRows;
      for (int k = 0; k < block.rows; ++k) {
        std::uint32_t word = 0;
        for (int p = 0; p < kColumnsPerWord; ++p)
          word |= std::uint32_t{first[kColumnOfNibble[static_cast<std::size_t>(p)] * kBlockRows + k]}
                  << (4 * p);
        to[k] = word;
      }
    }
    for (int k = 0; k < block.rows; ++k) {
      std::array<std::uint32_t, kBlockWords> row;
      for (int w = 0; w < words_per_row; ++w)
        row[static_cast<std::size_t>(w)] = words[static_cast<std::size_t>(w * kBlockRows + k)];
      std::memcpy(out.data() + word_offset(k0 + k, window.first + n0, window.total), row.data(),
                  static_cast<std::size_t>(words_per_row) * 4);
    }
  });
}

void unpack_gemm(std::span<const std::byte> in, ColumnWindow window, Codes& codes) {
  fill_blocks(codes, [&](CodeBlock& block, std::int64_t k0, std::int64_t n0) {
    WordBlock words;
    const int words_per_row = block.cols / kColumnsPerWord;
    for (int k = 0; k < block.rows; ++k) {
      std::array<std::uint32_t, kBlockWords> row;
      std::memcpy(row.data(), in.data() + word_offset(k0 + k, window.first + n0, window.total),
                  static_cast<std::size_t>(words_per_row) * 4);
      for (int w = 0; w < words_per_row; ++w)
        words[static_cast<std::size_t>(w * kBlockRows + k)] = row[static_cast<std::size_t>(w)];
    }
    for (int n = 0; n < words_per_row * kColumnsPerWord; ++n) {
      const int shift = 4 * kNibbleOfColumn[static_cast<std::size_t>(n % kColumnsPerWord)];
      const std::uint32_t* from = words.data() + n / kColumnsPerWord * kBlockRows;
      std::uint8_t* to = block.codes.data() + n * kBlockRows;
      for (int k = 0; k < block.rows; ++k) to[k] = static_cast<std::uint8_t>(from[k] >> shift & 15u);
    }
  });
}

/// Which nibble of the words of qzeros, (groups, N / 8) row-major, is the zero point of a group and column.
struct ZeroPlace {
  std::int64_t word;
  int shift;
};
ZeroPlace zero_place(N n, std::int64_t group, std::int64_t column) {
  return {(group * n.value + column) / kColumnsPerWord,
          4 * kNibbleOfColumn[static_cast<std::size_t>(column % kColumnsPerWord)]};
}

std::optional<std::string> gemm_refusal(const Scheme& scheme, K k, N n) {
  if (auto why = awq_refusal("awq", scheme, k, n)) return why;
  if (n.value % kColumnsPerWord != 0)
    return fmt::format("awq needs N % 8 == 0; here N = {} (% 8 = {}); leave the module unquantized", n.value,
                       n.value % kColumnsPerWord);
  return std::nullopt;
}

std::vector<PartSpec> gemm_specs(const Scheme& scheme, K k, N n) {
  const std::int64_t groups = scheme.groups(k).value;
  return {{"qweight", DType::I32, {k.value, n.value / kColumnsPerWord}},
          {"qzeros", DType::I32, {groups, n.value / kColumnsPerWord}},
          {"scales", scheme.scale_dtype, {groups, n.value}}};
}

std::optional<Geometry> recognize_gemm(const PartViews& parts, const Claims& claims) {
  const auto shapes = awq_shapes(parts);
  if (!shapes || (shapes->gemv && (!shapes->gemm || claims.dialect == "gemv"))) return std::nullopt;
  const Extents qweight = matrix_extents(parts, "qweight"), qzeros = matrix_extents(parts, "qzeros"),
                scales = matrix_extents(parts, "scales");
  if (!shapes->gemm)
    throw Error{ErrorKind::bad_input,
                fmt::format("qweight ({}, {}), qzeros ({}, {}) and scales ({}, {}) are neither AWQ's nor "
                            "GPTQ's shapes",
                            qweight.rows, qweight.cols, qzeros.rows, qzeros.cols, scales.rows, scales.cols)};
  Geometry found{{}, K{qweight.rows}, N{scales.cols}};
  found.scheme.scale_dtype = part_of(parts, "scales").dtype;
  found.scheme.group_size = group_size_of(found.k, scales.rows, claims);
  refuse(gemm_refusal, found.scheme, found.k, found.n);
  require(parts, gemm_specs(found.scheme, found.k, found.n));
  const std::span<const std::byte> words = part_of(parts, "qzeros").data;
  set_awq_type(found.scheme, scales.rows * scales.cols,
               [&](std::int64_t i) { return stream_element(words, i, 4); });
  return found;
}

void read_gemm(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const ColumnWindow window = window_of(out, geometry);
  unpack_gemm(part_of(parts, "qweight").data, window, out.codes);
  within("scales", [&] {
    load_scales(part_of(parts, "scales").data, geometry.scheme.scale_dtype, ScaleGrid::rows(geometry.n),
                window, out.scales);
  });
  const std::span<const std::byte> qzeros = part_of(parts, "qzeros").data;
  for (Eigen::Index group = 0; group < out.scales.rows(); ++group)
    for (Eigen::Index col = 0; col < out.codes.cols(); ++col) {
      const ZeroPlace place = zero_place(geometry.n, group, window.first + col);
      put_awq_zero(out, group, col, static_cast<int>(load_word(qzeros, place.word) >> place.shift & 15u));
    }
}

void write_gemm(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  const ColumnWindow window = window_of(q, geometry);
  within("qweight", [&] { pack_gemm(q.codes, window, part_of(out, "qweight").data); });
  within("scales", [&] {
    store_scales(q.scales, geometry.scheme.scale_dtype, ScaleGrid::rows(geometry.n), window,
                 part_of(out, "scales").data);
  });
  const std::span<std::byte> qzeros = part_of(out, "qzeros").data;
  for (Eigen::Index group = 0; group < q.scales.rows(); ++group)
    for (Eigen::Index col = 0; col < q.codes.cols(); ++col) {
      const ZeroPlace place = zero_place(geometry.n, group, window.first + col);
      const auto zero = static_cast<std::uint32_t>(awq_zero(q, group, col));
      store_word(qzeros, place.word, load_word(qzeros, place.word) | zero << place.shift);
    }
}

constexpr MarlinNames kMarlinNames{"qweight", "scales"};

std::optional<std::string> marlin_refusal(const Scheme& scheme, K k, N n) {
  if (auto why = awq_refusal("awq-marlin", scheme, k, n)) return why;
  if (scheme.type != kU4B8)
    return fmt::format("awq-marlin holds u4b8 codes, not {}; use format awq", name_of(scheme.type));
  if (scheme.scale_dtype != DType::F16)
    return fmt::format("awq-marlin holds F16 scales, not {}; use format awq", info(scheme.scale_dtype).name);
  if (const std::int64_t g = group_size_number(scheme); g != -1 && g != 128)
    return fmt::format("awq-marlin has group_size -1 or 128, not {}; use format awq", g);
  if (k.value % 128 != 0 || n.value % 64 != 0)
    return fmt::format(
        "awq-marlin needs K % 128 == 0 and N % 64 == 0; here K = {} (% 128 = {}), N = {} (% 64 = {}); use "
        "format awq",
        k.value, k.value % 128, n.value, n.value % 64);
  return std::nullopt;
}

std::vector<PartSpec> specs_of_marlin(const Scheme& scheme, K k, N n) {
  return marlin_specs(kMarlinNames, scheme, k, n);
}

// The tensors have the names and shapes of row "marlin", and may be its twin to the bit: only the
// configuration knows that AutoAWQ wrote them.
std::optional<Geometry> recognize_marlin(const PartViews& parts, const Claims& claims) {
  if (claims.method != "awq" || claims.dialect != "marlin") return std::nullopt;
  if (!has_exactly(parts, {kMarlinNames.codes, kMarlinNames.scales})) return std::nullopt;
  const Geometry found = marlin_geometry(kMarlinNames, parts, claims);
  refuse(marlin_refusal, found.scheme, found.k, found.n);
  require(parts, specs_of_marlin(found.scheme, found.k, found.n));
  return found;
}

}  // namespace

std::optional<std::string> awq_refusal(const char* name, const Scheme& scheme, K k, N n) {
  if (auto why = integer_refusal(name, scheme, k, n)) return why;
  if (scheme.type.bits != 4)
    return fmt::format("{} holds 4-bit codes, not {}; use format gptq", name, name_of(scheme.type));
  if (scheme.act_order)
    return fmt::format("{} has no g_idx, so groups must be runs of rows; use format gptq", name);
  return std::nullopt;
}

nlohmann::json awq_config(const char* version, bool zero_point, const CheckpointSchemes& checkpoint) {
  for (const auto& [module, scheme] : real_exceptions(checkpoint))
    if (scheme.group_size != checkpoint.common.group_size)
      throw Error{ErrorKind::unsupported,
                  fmt::format("{} has group_size {}, the other modules {}; AWQ has one for all: leave the "
                              "module unquantized, or use format gptq or compressed-tensors",
                              module, group_size_number(scheme), group_size_number(checkpoint.common))};
  nlohmann::json config = {{"quant_method", "awq"},
                           {"version", version},
                           {"bits", 4},
                           {"group_size", group_size_number(checkpoint.common)},
                           {"zero_point", zero_point},
                           {"modules_to_not_convert", nullptr}};
  if (!checkpoint.unquantized.empty())
    config["modules_to_not_convert"] = with_fused_names(checkpoint).unquantized;
  return config;
}

std::optional<AwqShapes> awq_shapes(const PartViews& parts) {
  if (!has_exactly(parts, {"qweight", "qzeros", "scales"}) || part_of(parts, "qweight").dtype != DType::I32)
    return std::nullopt;
  const Extents qweight = matrix_extents(parts, "qweight"), qzeros = matrix_extents(parts, "qzeros"),
                scales = matrix_extents(parts, "scales");
  const bool zero_per_scale = qzeros.rows == scales.rows && qzeros.cols * kColumnsPerWord == scales.cols;
  return AwqShapes{zero_per_scale && qweight.cols == qzeros.cols,
                   zero_per_scale && qweight.rows == qzeros.rows};
}

void put_awq_zero(QuantizedMatrix& out, Eigen::Index group, Eigen::Index column, int zero) {
  if (out.scheme.zero_points == ZeroPoints::integer) {
    out.zero_points(group, column) = static_cast<std::int16_t>(zero);
  } else if (zero != out.scheme.type.bias) {
    throw Error{ErrorKind::bad_input,
                fmt::format("qzeros: group {}, column {} has the zero point {}, symmetric ones are {}", group,
                            out.first_column + column, zero, out.scheme.type.bias)};
  }
}

int awq_zero(const QuantizedMatrix& q, Eigen::Index group, Eigen::Index column) {
  const int zero =
      q.scheme.zero_points == ZeroPoints::integer ? q.zero_points(group, column) : q.scheme.type.bias;
  if (zero < 0 || zero > kU4.max_code())
    throw Error{ErrorKind::unsupported, fmt::format("the zero point of group {}, column {} is {}; AWQ stores "
                                                    "0 to {}",
                                                    group, q.first_column + column, zero, kU4.max_code())};
  return zero;
}

WeightFormat awq() {
  return {.name = "awq",
          .family = "awq",
          .summary = "AutoAWQ's gemm version: 4 bit with zero points, what engines load as AWQ",
          .suffixes = {"qweight", "qzeros", "scales"},
          .recognize = recognize_gemm,
          .read = read_gemm,
          .refusal = gemm_refusal,
          .specs = gemm_specs,
          .write = write_gemm,
          .quantization_config = [](const CheckpointSchemes& schemes) {
            return awq_config("gemm", true, schemes);
          }};
}

WeightFormat awq_marlin() {
  return {.name = "awq-marlin",
          .family = "awq-marlin",
          .summary =
              "AutoAWQ's marlin version: the first Marlin kernel's layout, symmetric, group_size -1 or 128",
          .suffixes = {kMarlinNames.codes, kMarlinNames.scales},
          .recognize = recognize_marlin,
          .read = [](const PartViews& parts, const Geometry& geometry,
                     QuantizedMatrix& out) { read_marlin(kMarlinNames, parts, geometry, out); },
          .refusal = marlin_refusal,
          .specs = specs_of_marlin,
          .write = [](const QuantizedMatrix& q, const Geometry& geometry,
                      const PartBuffers& out) { write_marlin(kMarlinNames, q, geometry, out); },
          .quantization_config =
              [](const CheckpointSchemes& schemes) { return awq_config("marlin", false, schemes); }};
}

}  // namespace mpk::formats
