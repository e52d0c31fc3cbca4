// The OCP microscaling formats: 32 codes share a power of two. compressed-tensors' MXFP4 and MXFP8
// (ModelOpt's MXFP8 has the same tensors), and MXFP4 as GPT-OSS stores an expert.

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/formats/float_parts.hpp"

namespace mpk::formats {
namespace {

struct Spelling {
  BlockFormat format;
  const char* codes;
  const char* scales;
  DType codes_dtype;
  bool blocks;  ///< codes are (N, K/32, 16), not (N, K/2)
};
constexpr BlockFormat block_format(const char* name, ScalarType type) {
  return {name, type, GroupSize{32}, DType::F8_E8M0, GlobalScale::none};
}
constexpr Spelling kMxfp4{block_format("mxfp4", kE2M1), "weight_packed", "weight_scale", DType::U8, false};
constexpr Spelling kMxfp8{block_format("mxfp8", kE4M3), "weight", "weight_scale", DType::F8_E4M3, false};
constexpr Spelling kGptOss{block_format("mxfp4", kE2M1), "blocks", "scales", DType::U8, true};

template <const Spelling& kNames>
std::optional<std::string> refusal(const Scheme& scheme, K k, N n) {
  return block_refusal(kNames.format, scheme, k, n);
}

template <const Spelling& kNames>
std::vector<PartSpec> specs(const Scheme& scheme, K k, N n) {
  const std::int64_t groups = scheme.groups(k).value;
  const Shape codes = kNames.blocks                  ? Shape{n.value, groups, 16}
                      : kNames.format.type.bits == 4 ? Shape{n.value, k.value / 2}
                                                     : Shape{n.value, k.value};
  return {{kNames.codes, kNames.codes_dtype, codes}, {kNames.scales, DType::U8, {n.value, groups}}};
}

/// K and N as the codes' shape tells them.
template <const Spelling& kNames>
std::pair<K, N> extents(const PartViews& parts) {
  if constexpr (kNames.blocks) {
    constexpr std::int64_t kMax = std::int64_t{1} << 34;
    const Shape& shape = part_of(parts, kNames.codes).shape;
    if (shape.size() != 3 || shape[0] < 1 || shape[1] < 1 || shape[0] > kMax || shape[1] > kMax ||
        shape[2] != 16)
      throw Error{ErrorKind::bad_input, fmt::format("{} has shape {}; one expert's is (N, K/32, 16)",
                                                    kNames.codes, to_string(shape))};
    return {K{shape[1] * 32}, N{shape[0]}};
  } else {
    const Extents codes = matrix_extents(parts, kNames.codes);
    return {K{kNames.format.type.bits == 4 ? codes.cols * 2 : codes.cols}, N{codes.rows}};
  }
}

template <const Spelling& kNames>
std::optional<Geometry> recognize(const PartViews& parts, const Claims&) {
  const auto scale_dtype = dtype_of(parts, kNames.scales);
  if (dtype_of(parts, kNames.codes) != kNames.codes_dtype ||
      (scale_dtype != DType::U8 && scale_dtype != DType::F8_E8M0))
    return std::nullopt;
  refuse_others(parts, {kNames.codes, kNames.scales});
  const auto [k, n] = extents<kNames>(parts);
  const Geometry found{scheme_of(kNames.format), k, n};
  refuse(refusal<kNames>, found.scheme, k, n);
  std::vector<PartSpec> expected = specs<kNames>(found.scheme, k, n);
  expected[1].dtype = *scale_dtype;
  require(parts, expected);
  return found;
}

template <const Spelling& kNames>
void read(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const ColumnWindow window = window_of(out, geometry);
  within(kNames.codes, [&] {
    const auto read_codes = kNames.format.type.bits == 4 ? read_e2m1 : read_e4m3;
    read_codes(part_of(parts, kNames.codes).data, window, out.codes);
  });
  within(kNames.scales,
         [&] { read_byte_scales(part_of(parts, kNames.scales).data, DType::F8_E8M0, window, out.scales); });
}

template <const Spelling& kNames>
void write(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  const ColumnWindow window = window_of(q, geometry);
  within(kNames.codes, [&] {
    const auto write_codes = kNames.format.type.bits == 4 ? write_e2m1 : write_e4m3;
    write_codes(q.codes, window, part_of(out, kNames.codes).data);
  });
  within(kNames.scales,
         [&] { write_byte_scales(q.scales, DType::F8_E8M0, window, part_of(out, kNames.scales).data); });
}

nlohmann::json mxfp4_config(const CheckpointSchemes& schemes) {
  if (const auto exceptions = real_exceptions(schemes); !exceptions.empty())
    throw Error{ErrorKind::unsupported,
                fmt::format("mxfp4's configuration has one scheme for all modules; {} has another one",
                            exceptions.begin()->first)};
  return {{"quant_method", "mxfp4"}, {"modules_to_not_convert", schemes.unquantized}};
}

template <const Spelling& kNames>
WeightFormat row(const char* name, const char* family, const char* summary,
                 nlohmann::json (*config)(const CheckpointSchemes&)) {
  return {.name = name,
          .family = family,
          .summary = summary,
          .suffixes = {kNames.codes, kNames.scales},
          .recognize = recognize<kNames>,
          .read = read<kNames>,
          .refusal = refusal<kNames>,
          .specs = specs<kNames>,
          .write = write<kNames>,
          .quantization_config = config};
}

}  // namespace

WeightFormat ct_mxfp4() {
  return row<kMxfp4>("ct-mxfp4-pack-quantized", "compressed-tensors",
                     "compressed-tensors' mxfp4-pack-quantized: E2M1, a power of two per 32",
                     compressed_tensors_config);
}

WeightFormat ct_mxfp8() {
  return row<kMxfp8>("ct-mxfp8-quantized", "compressed-tensors",
                     "compressed-tensors' mxfp8-quantized: E4M3, a power of two per 32",
                     compressed_tensors_config);
}

WeightFormat gpt_oss_mxfp4() {
  return row<kGptOss>("gpt-oss-mxfp4", "mxfp4", "one expert of GPT-OSS: E2M1, a power of two per 32",
                      mxfp4_config);
}

}  // namespace mpk::formats
