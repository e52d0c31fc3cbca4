#include "verify/fragment_decoder.hpp"

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/float16.hpp"
#include "verify/elements.hpp"
#include "verify/float_decoders.hpp"
#include "verify/marlin_decoders.hpp"
#include "verify/plain_decoders.hpp"

namespace mpk {
namespace {

float to_float(std::uint16_t bits, DType dtype) {
  return dtype == DType::BF16 ? bf16_to_float(bits) : f16_to_float(bits);
}

template <class CodeAt, class ScaleAt>
QuantizedMatrix gather(const Scheme& scheme, K k, N n, CodeAt code_at, ScaleAt scale_at) {
  QuantizedMatrix q = make_matrix(scheme, k, n);
#pragma omp parallel for schedule(static)
  for (std::int64_t col = 0; col < n.value; ++col) {
    for (std::int64_t row = 0; row < k.value; ++row) q.codes(row, col) = code_at(row, col);
    for (std::int64_t group = 0; group < q.scales.rows(); ++group)
      q.scales(group, col) = scale_at(group, col);
  }
  return q;
}

/// Bits first .. first + count of word `word`, counted over words that follow each other every `stride`.
std::uint32_t bits_of(const Words& words, std::int64_t start, std::int64_t stride, std::int64_t first,
                      int count) {
  std::uint32_t value = 0;
  for (int bit = 0; bit < count; ++bit) {
    const std::int64_t at = first + bit;
    value |= ((words[start + at / 32 * stride] >> (at % 32)) & 1u) << bit;
  }
  return value;
}

/// `offset`: what the stored zero points lack.
QuantizedMatrix gptq_tensors(const PartViews& parts, const Scheme& scheme, K k, N n, int offset) {
  const int bits = scheme.type.bits;
  const std::int64_t groups = scheme.groups(k).value;
  const Words words(parts, "qweight", k.value * bits / 32 * n.value),
      zeros(parts, "qzeros", groups * n.value * bits / 32), g_idx(parts, "g_idx", k.value);
  const Halves scales(parts, "scales", groups * n.value);
  QuantizedMatrix q = gather(
      scheme, k, n,
      [&](auto row, auto col) {
        return static_cast<std::uint8_t>(bits_of(words, col, n.value, row * bits, bits));
      },
      [&](auto group, auto col) { return to_float(scales[group * n.value + col], scheme.scale_dtype); });
  for (std::int64_t i = 0; i < q.zero_points.size(); ++i) {
    const std::int64_t group = i % groups, col = i / groups;
    const std::int64_t row_words = n.value * bits / 32;
    q.zero_points(group, col) = static_cast<std::int16_t>(
        bits_of(zeros, group * row_words, 1, col * bits, bits) + static_cast<unsigned>(offset));
  }
  for (std::size_t row = 0; row < q.g_idx.size(); ++row)
    q.g_idx[row] = static_cast<std::int32_t>(g_idx[static_cast<std::int64_t>(row)]);
  return q;
}

QuantizedMatrix gptq(const PartViews& parts, const Scheme& scheme, K k, N n) {
  return gptq_tensors(parts, scheme, k, n, 1);
}
QuantizedMatrix gptq_v2(const PartViews& parts, const Scheme& scheme, K k, N n) {
  return gptq_tensors(parts, scheme, k, n, 0);
}

struct Drawing {
  const char* layout;
  QuantizedMatrix (*decode)(const PartViews&, const Scheme&, K, N);
};
constexpr Drawing kDrawings[] = {
    {"marlin", decode_marlin},
    {"marlin-original", decode_marlin_original},
    {"marlin-a8", decode_marlin_a8},
    {"marlin-24", decode_marlin_24},
    {"gptq", gptq},
    {"gptq-v2", gptq_v2},
    {"ct-float-quantized", decode_fp8},
    {"fp8", decode_fp8},
    {"ct-nvfp4-pack-quantized", decode_ct_nvfp4},
    {"modelopt-nvfp4", decode_modelopt_nvfp4},
    {"ct-mxfp4-pack-quantized", decode_mxfp4},
    {"ct-mxfp8-quantized", decode_mxfp8},
    {"gpt-oss-mxfp4", decode_gpt_oss},
    {"awq-marlin", decode_marlin},  // the same bytes under the same names
    {"awq", plain_awq},
    {"awq-gemv", plain_awq_gemv},
    {"awq-gemv-fast", plain_awq_gemv_fast},
    {"ct-pack-quantized", plain_ct_pack_quantized},
    {"ct-int-quantized", plain_ct_int_quantized},
};

}  // namespace

QuantizedMatrix decode_by_fragments(const std::string& layout, const PartViews& parts, const Scheme& scheme,
                                    K k, N n) {
  for (const Drawing& drawing : kDrawings)
    if (layout == drawing.layout) return drawing.decode(parts, scheme, k, n);
  throw Error{ErrorKind::unsupported, fmt::format("no second decoder for layout {}", layout)};
}

}  // namespace mpk
