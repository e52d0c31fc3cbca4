// "marlin-a8": what Marlin kernels with FP8 or INT8 activations read. The tensors have the names and shapes
// of row "marlin"; only the configuration can tell.

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/formats/marlin_layout.hpp"
#include "packer/pack.hpp"
#include "packer/scales.hpp"

namespace mpk::formats {
namespace {

constexpr MarlinNames kNames{"qweight", "scales"};
constexpr const char *kName = "marlin-a8", *kZeros = "qzeros";

/// Recoded 4-bit codes become E4M3 subnormals, steps of 2^-9.
constexpr float kFp8Factor = 0x1p9f;
/// E2M1 becomes E4M3 by moving bits, which leaves out 2^6.
constexpr float kMxFactor = 0x1p6f;

bool is_mx(const Scheme& scheme) {
  return scheme.type == kE2M1;
}

DType activations_of(const Scheme& scheme) {
  return scheme.activations.value_or(scheme.type.bits == 4 ? DType::F8_E4M3 : DType::I8);
}

/// Integers of 4 bits under FP8 activations.
bool is_recoded(const Scheme& scheme) {
  return scheme.type.is_integer() && activations_of(scheme) == DType::F8_E4M3;
}

std::optional<std::string> mx_refusal(const Scheme& scheme, K k) {
  if (scheme.scale_dtype != DType::F8_E8M0 || group_size_number(scheme) != 32 || k.value % 32 != 0)
    return fmt::format("marlin-a8 has e2m1 with F8_E8M0 scales of group_size 32 (MXFP4), not {}",
                       to_string(scheme));
  if (scheme.zero_points != ZeroPoints::implied || scheme.global_scale != GlobalScale::none ||
      scheme.columns_per_scale != 1)
    return "MXFP4 has no zero points, no global scale and a scale per column in marlin-a8";
  if (activations_of(scheme) != DType::F8_E4M3)
    return fmt::format("e2m1 is for F8_E4M3 activations in marlin-a8, not {}",
                       info(activations_of(scheme)).name);
  return std::nullopt;
}

std::optional<std::string> refusal(const Scheme& scheme, K k, N n) {
  if (auto why = common_refusal(scheme, k, n)) return why;
  if (scheme.act_order) return "marlin-a8 has no act_order; use format marlin or gptq";
  if (is_mx(scheme)) {
    if (auto why = mx_refusal(scheme, k)) return why;
    return marlin_tile_refusal(kName, k, n);
  }
  if (auto why = integer_refusal(kName, scheme, k, n)) return why;
  if (scheme.type != kU4B8 && scheme.type != kU4 && scheme.type != kU8B128)
    return fmt::format("marlin-a8 has u4b8, u4, u8b128 and e2m1 codes, not {}", name_of(scheme.type));
  if (auto why = marlin_tile_refusal(kName, k, n)) return why;
  if (auto why = marlin_group_refusal(kName, scheme)) return why;
  const DType activations = activations_of(scheme);
  if (activations != DType::I8 && (activations != DType::F8_E4M3 || scheme.type.bits == 8))
    return fmt::format("{} is for {} activations in marlin-a8, not {}", name_of(scheme.type),
                       scheme.type.bits == 8 ? "I8" : "F8_E4M3 or I8", info(activations).name);
  // Kernels want 12-bit multiples of a common factor then, which these scales are not.
  if (activations == DType::I8 && scheme.groups(k).value > 1)
    return fmt::format(
        "marlin-a8 for I8 activations has a scale per column, not group_size {}; its grouped "
        "scales are rounded{}",
        group_size_number(scheme), scheme.type.bits == 4 ? ": use F8_E4M3 activations" : "");
  return std::nullopt;
}

std::vector<PartSpec> specs(const Scheme& scheme, K k, N n) {
  std::vector<PartSpec> parts = marlin_specs(kNames, scheme, k, n);
  if (scheme.zero_points == ZeroPoints::integer) parts.push_back(qzeros_spec(scheme, k, n));
  return parts;
}

std::optional<Geometry> recognize(const PartViews& parts, const Claims& claims) {
  if (!has_exactly(parts, {kNames.codes, kNames.scales}, {kZeros}) || !may_be_ours(claims, kName, false))
    return std::nullopt;
  Geometry found = marlin_geometry(kNames, parts, claims);
  Scheme& scheme = found.scheme;
  if (has_part(parts, kZeros)) {
    scheme.type = unsigned_integer(scheme.type.bits);
    scheme.zero_points = ZeroPoints::integer;
  } else if (scheme.scale_dtype == DType::F8_E8M0) {
    scheme.type = kE2M1;
    scheme.group_size = GroupSize{32};
  }
  settle_type(scheme, claims);
  if (claims.activations && *claims.activations != activations_of(scheme))
    scheme.activations = claims.activations;
  refuse(refusal, scheme, found.k, found.n);
  require(parts, specs(scheme, found.k, found.n));
  return found;
}

ScaleGrid scale_grid(const Geometry& whole) {
  const float factor = is_mx(whole.scheme) ? kMxFactor : is_recoded(whole.scheme) ? kFp8Factor : 1.0f;
  return ScaleGrid::rows(whole.n, ScaleOrder::single, factor);
}

Recoding recoding_of(const QuantizedMatrix& q, const Geometry& whole) {
  return {q.scheme.zero_points == ZeroPoints::integer ? &q.zero_points : nullptr, q.scheme.type.bias,
          whole.scheme.rows_per_group(whole.k)};
}

void read(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const Scheme& scheme = geometry.scheme;
  const ColumnWindow window = window_of(out, geometry);
  if (scheme.zero_points == ZeroPoints::integer)
    read_qzeros(part_of(parts, kZeros).data, geometry, ZeroOrder::u4_a8, out);
  const Recoding recoding = recoding_of(out, geometry);
  within(kNames.codes, [&] {
    unpack_marlin_a8(part_of(parts, kNames.codes).data, scheme.type, window, out.codes,
                     is_recoded(scheme) ? &recoding : nullptr);
  });
  within(kNames.scales, [&] {
    load_scales(part_of(parts, kNames.scales).data, scheme.scale_dtype, scale_grid(geometry), window,
                out.scales);
  });
}

void write(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  const Scheme& scheme = geometry.scheme;
  const ColumnWindow window = window_of(q, geometry);
  if (scheme.zero_points == ZeroPoints::integer)
    write_qzeros(q, geometry, ZeroOrder::u4_a8, part_of(out, kZeros).data);
  const Recoding recoding = recoding_of(q, geometry);
  within(kNames.codes, [&] {
    pack_marlin_a8(q.codes, scheme.type, window, part_of(out, kNames.codes).data,
                   is_recoded(scheme) ? &recoding : nullptr);
  });
  within(kNames.scales, [&] {
    store_scales(q.scales, scheme.scale_dtype, scale_grid(geometry), window,
                 part_of(out, kNames.scales).data);
  });
}

nlohmann::json scheme_fields(const Scheme& scheme) {
  nlohmann::json fields = own_scheme_fields(scheme);
  fields["activations"] = info(activations_of(scheme)).name;
  return fields;
}

}  // namespace

WeightFormat marlin_a8() {
  return {.name = kName,
          .family = kName,
          .summary = "what Marlin kernels with FP8 or INT8 activations read: u4, u4b8, u8b128, MXFP4",
          .suffixes = {kNames.codes, kNames.scales},
          .activations = activations_of,
          .recognize = recognize,
          .read = read,
          .refusal = refusal,
          .specs = specs,
          .write = write,
          .quantization_config = [](const CheckpointSchemes& schemes) {
            return own_config(kName, schemes, scheme_fields);
          }};
}

}  // namespace mpk::formats
