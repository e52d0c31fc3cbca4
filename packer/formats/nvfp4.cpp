// NVFP4: E2M1 codes, an E4M3 scale for 16 of them and one F32 scale for the matrix. compressed-tensors
// divides by the latter, ModelOpt multiplies; all other bytes are the same.

#include "packer/format/error.hpp"
#include "packer/formats/float_parts.hpp"

namespace mpk::formats {
namespace {

constexpr const char* kScales = "weight_scale";

struct Spelling {
  BlockFormat format;
  const char* codes;
  const char* global;
  Shape (*global_shape)();
};
constexpr Spelling kCt{
    {"nvfp4 of compressed-tensors", kE2M1, GroupSize{16}, DType::F8_E4M3, GlobalScale::divides},
    "weight_packed",
    "weight_global_scale",
    [] { return Shape{1}; }};
constexpr Spelling kModelOpt{
    {"nvfp4 of ModelOpt", kE2M1, GroupSize{16}, DType::F8_E4M3, GlobalScale::multiplies},
    "weight",
    "weight_scale_2",
    [] { return Shape{}; }};

template <const Spelling& kNames>
std::optional<std::string> refusal(const Scheme& scheme, K k, N n) {
  return block_refusal(kNames.format, scheme, k, n);
}

template <const Spelling& kNames>
std::vector<PartSpec> specs(const Scheme& scheme, K k, N n) {
  return {{kNames.codes, DType::U8, {n.value, k.value / 2}},
          {kScales, DType::F8_E4M3, {n.value, scheme.groups(k).value}},
          {kNames.global, DType::F32, kNames.global_shape()}};
}

template <const Spelling& kNames>
std::optional<Geometry> recognize(const PartViews& parts, const Claims&) {
  if (dtype_of(parts, kNames.codes) != DType::U8 || dtype_of(parts, kScales) != DType::F8_E4M3)
    return std::nullopt;
  if (!has_part(parts, kNames.global)) {
    const std::string what = std::string{kNames.codes} + " U8 with " + kScales + " F8_E4M3 is NVFP4, but ";
    throw Error{ErrorKind::bad_input, what + "there is no " + kNames.global};
  }
  refuse_others(parts, {kNames.codes, kScales, kNames.global});
  const Extents codes = matrix_extents(parts, kNames.codes);
  const Geometry found{scheme_of(kNames.format), K{codes.cols * 2}, N{codes.rows}};
  refuse(refusal<kNames>, found.scheme, found.k, found.n);
  std::vector<PartSpec> expected = specs<kNames>(found.scheme, found.k, found.n);
  const Shape& global = part_of(parts, kNames.global).shape;
  if (global.empty() || global == Shape{1}) expected.back().shape = global;
  require(parts, expected);
  return found;
}

template <const Spelling& kNames>
void read(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const ColumnWindow window = window_of(out, geometry);
  within(kNames.codes, [&] { read_e2m1(part_of(parts, kNames.codes).data, window, out.codes); });
  within(kScales,
         [&] { read_byte_scales(part_of(parts, kScales).data, DType::F8_E4M3, window, out.scales); });
  read_global_scale(parts, kNames.global, out);
}

template <const Spelling& kNames>
void write(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  const ColumnWindow window = window_of(q, geometry);
  within(kNames.codes, [&] { write_e2m1(q.codes, window, part_of(out, kNames.codes).data); });
  within(kScales, [&] { write_byte_scales(q.scales, DType::F8_E4M3, window, part_of(out, kScales).data); });
  write_global_scale(q, out, kNames.global);
}

nlohmann::json modelopt_config(const CheckpointSchemes& schemes) {
  if (const auto exceptions = real_exceptions(schemes); !exceptions.empty())
    throw Error{ErrorKind::unsupported, "ModelOpt's configuration has one scheme for all modules; " +
                                            exceptions.begin()->first + " has another one"};
  // The algorithm of weights only: an artifact promises no scales of the activations.
  return {{"quant_method", "modelopt"},
          {"quant_algo", "W4A16_NVFP4"},
          {"config_groups",
           {{"group_0",
             {{"targets", {"Linear"}},
              {"weights", {{"num_bits", 4}, {"type", "float"}, {"group_size", 16}, {"dynamic", false}}}}}}},
          {"ignore", schemes.unquantized}};
}

template <const Spelling& kNames>
WeightFormat row(const char* name, const char* family, const char* summary,
                 nlohmann::json (*config)(const CheckpointSchemes&)) {
  return {.name = name,
          .family = family,
          .summary = summary,
          .suffixes = {kNames.codes, kScales, kNames.global},
          .recognize = recognize<kNames>,
          .read = read<kNames>,
          .refusal = refusal<kNames>,
          .specs = specs<kNames>,
          .write = write<kNames>,
          .quantization_config = config};
}

}  // namespace

WeightFormat ct_nvfp4() {
  return row<kCt>("ct-nvfp4-pack-quantized", "compressed-tensors",
                  "compressed-tensors' nvfp4-pack-quantized: E2M1, E4M3 scales per 16, a global divisor",
                  compressed_tensors_config);
}

WeightFormat modelopt_nvfp4() {
  return row<kModelOpt>("modelopt-nvfp4", "modelopt",
                        "NVIDIA ModelOpt's NVFP4: E2M1, E4M3 scales per 16, a global factor",
                        modelopt_config);
}

}  // namespace mpk::formats
