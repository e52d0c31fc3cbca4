// "marlin": what today's Marlin kernels with 16-bit activations read, as vLLM's repacking and scale
// processing make it: integers, E4M3, NVFP4 and MX.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include <fmt/format.h>

#include "packer/block_scales.hpp"
#include "packer/format/error.hpp"
#include "packer/format/layouts.hpp"
#include "packer/formats/marlin_layout.hpp"
#include "packer/pack.hpp"
#include "packer/scales.hpp"

namespace mpk::formats {
namespace {

constexpr MarlinNames kNames{"qweight", "scales"};
constexpr const char *kZeros = "qzeros", *kGroups = "g_idx", *kOrder = "perm", *kGlobal = "global_scale";
constexpr std::int64_t kNvfp4Group = 16, kMxGroup = 32;

/// The varieties differ in their scales.
enum class Kind { integer, e4m3, nvfp4, mx };

std::optional<Kind> kind_of(const Scheme& scheme) {
  const DType scales = scheme.scale_dtype;
  if (scheme.type.is_integer()) return Kind::integer;
  if (scheme.type == kE4M3 && (scales == DType::F16 || scales == DType::BF16)) return Kind::e4m3;
  if (scheme.type == kE2M1 && scales == DType::F8_E4M3) return Kind::nvfp4;
  if (scales == DType::F8_E8M0) return Kind::mx;
  return std::nullopt;
}

/// What activations the bytes are for: NVFP4's for what the scheme says, the others' for what their scales
/// say.
DType activations_of(const Scheme& scheme, Kind kind) {
  Scheme asked = scheme;
  if (kind != Kind::nvfp4) asked.activations.reset();
  return activations_of_16_bits(asked);
}

/// E4M3 and E2M1 become 16-bit floats by moving bits, which leaves out a power of two: 15 - 7 and 127 - 7, 15
/// - 1 and 127 - 1. Newer kernels want it in the scales.
float e4m3_factor(DType activations) {
  return activations == DType::F16 ? 0x1p8f : 0x1p120f;
}
/// Less the 2^7 that stands in the block scales.
float nvfp4_factor(DType activations) {
  return activations == DType::F16 ? 0x1p7f : 0x1p119f;
}

std::optional<std::string> float_refusal(const Scheme& scheme, Kind kind) {
  if (scheme.zero_points != ZeroPoints::implied)
    return fmt::format("{} has no zero points", name_of(scheme.type));
  if (scheme.act_order) return fmt::format("{} has no act_order in marlin", name_of(scheme.type));
  if (scheme.columns_per_scale != 1)
    return fmt::format("marlin has a scale per column, not one for {}; repeat it",
                       scheme.columns_per_scale == Scheme::kAllColumns
                           ? std::string{"all"}
                           : std::to_string(scheme.columns_per_scale));
  if ((scheme.global_scale != GlobalScale::none) != (kind == Kind::nvfp4))
    return fmt::format("{} with {} scales has {} global scale in marlin", name_of(scheme.type),
                       info(scheme.scale_dtype).name, kind == Kind::nvfp4 ? "a" : "no");
  if (scheme.global_scale == GlobalScale::divides)
    return "marlin multiplies by the global scale; one that divides has a reciprocal, which is rounded";
  const std::int64_t g = group_size_number(scheme);
  if (kind == Kind::e4m3 && g != -1 && g != 128)
    return fmt::format("marlin has e4m3 in group_size -1 and 128, not {}", g);
  if (kind == Kind::nvfp4 && g != kNvfp4Group) return fmt::format("NVFP4 has group_size 16, not {}", g);
  if (kind == Kind::mx && g != kMxGroup) return fmt::format("MX types have group_size 32, not {}", g);
  return std::nullopt;
}

std::optional<std::string> refusal(const Scheme& scheme, K k, N n) {
  if (auto why = common_refusal(scheme, k, n)) return why;
  const auto kind = kind_of(scheme);
  if (!kind)
    return fmt::format(
        "marlin has {} with {} scales, not {}", name_of(scheme.type),
        scheme.type == kE4M3 ? "F16, BF16 (times a power of two) or F8_E8M0" : "F8_E4M3 (NVFP4) or F8_E8M0",
        info(scheme.scale_dtype).name);
  if (*kind == Kind::integer) {
    const bool float_zeros = scheme.zero_points == ZeroPoints::floating;
    if (float_zeros && scheme.type != kU4)
      return fmt::format("marlin has floating-point zero points with u4 codes, not with {}",
                         name_of(scheme.type));
    Scheme counted = scheme;  // in all else they are like integer ones
    if (float_zeros) counted.zero_points = ZeroPoints::integer;
    if (auto why = integer_refusal("marlin", counted, k, n)) return why;
    if (scheme.type.bits != 4 && scheme.type.bits != 8)
      return fmt::format("marlin has u4b8, u8b128, u4 and u8 codes, not {}", name_of(scheme.type));
  } else if (auto why = float_refusal(scheme, *kind)) {
    return why;
  }
  if (auto why = marlin_tile_refusal("marlin", k, n)) return why;
  if (*kind == Kind::integer)
    if (auto why = marlin_group_refusal("marlin", scheme)) return why;
  if (scheme.group_size && !divides(*scheme.group_size, k))
    return fmt::format("group_size {} does not divide K = {}", scheme.group_size->value, k.value);
  if (scheme.activations && *scheme.activations != activations_of(scheme, *kind))
    return fmt::format("{} with {} scales is for {} activations in marlin, not {}", name_of(scheme.type),
                       info(scheme.scale_dtype).name,
                       *kind == Kind::nvfp4 ? "F16 or BF16" : info(activations_of(scheme, *kind)).name,
                       info(*scheme.activations).name);
  return std::nullopt;
}

std::vector<PartSpec> specs(const Scheme& scheme, K k, N n) {
  std::vector<PartSpec> parts = marlin_specs(kNames, scheme, k, n);
  const Kind kind = *kind_of(scheme);
  if (kind == Kind::nvfp4) {
    parts.back().dtype = DType::U8;  // E5M3 has no name of its own
    parts.push_back({kGlobal, DType::F32, {1}});
  }
  if (scheme.zero_points == ZeroPoints::integer) parts.push_back(qzeros_spec(scheme, k, n));
  if (scheme.zero_points == ZeroPoints::floating)
    parts.push_back({kZeros, scheme.scale_dtype, {scheme.groups(k).value, n.value}});
  if (scheme.act_order) {
    parts.push_back({kGroups, DType::I32, {k.value}});
    parts.push_back({kOrder, DType::I32, {k.value}});
  }
  return parts;
}

bool has_float_zeros(const PartViews& parts) {
  return has_part(parts, kZeros) &&
         (part_of(parts, kZeros).dtype == DType::F16 || part_of(parts, kZeros).dtype == DType::BF16);
}

/// The shapes of GPTQ and AWQ are others: with zero points their tensors have these names, too.
bool has_marlin_shapes(const PartViews& parts) {
  const auto is_matrix = [&](std::string_view suffix) {
    const Shape& shape = part_of(parts, suffix).shape;
    return shape.size() == 2 && shape[0] > 0 && shape[1] > 0;
  };
  if (!is_matrix(kNames.codes) || !is_matrix(kNames.scales) || !is_matrix(kZeros)) return false;
  const Extents codes = matrix_extents(parts, kNames.codes), scales = matrix_extents(parts, kNames.scales),
                zeros = matrix_extents(parts, kZeros);
  const std::int64_t per_column = codes.cols / scales.cols;
  return codes.cols % scales.cols == 0 && (per_column == 2 || per_column == 4) && scales.cols % kTileN == 0 &&
         zeros.rows == scales.rows &&
         (has_float_zeros(parts) ? zeros.cols == scales.cols : zeros.cols * 16 == scales.cols * per_column);
}

std::optional<Geometry> recognize(const PartViews& parts, const Claims& claims) {
  if (!has_exactly(parts, {kNames.codes, kNames.scales}, {kZeros, kGroups, kOrder, kGlobal}))
    return std::nullopt;
  if (!may_be_ours(claims, "marlin", true)) return std::nullopt;
  const bool zeros = has_part(parts, kZeros), order = has_part(parts, kOrder);
  if (order != has_part(parts, kGroups) || (zeros && !has_marlin_shapes(parts))) return std::nullopt;
  Geometry found = marlin_geometry(kNames, parts, claims);
  Scheme& scheme = found.scheme;
  const bool bytes = scheme.scale_dtype == DType::U8 || scheme.scale_dtype == DType::F8_E8M0;
  if (zeros) {
    scheme.type = unsigned_integer(scheme.type.bits);
    scheme.zero_points = has_float_zeros(parts) ? ZeroPoints::floating : ZeroPoints::integer;
  }
  scheme.act_order = order;
  if (has_part(parts, kGlobal)) {
    scheme.type = kE2M1;
    scheme.group_size = GroupSize{kNvfp4Group};
    scheme.scale_dtype = DType::F8_E4M3;
    scheme.global_scale = GlobalScale::multiplies;
    if (claims.activations == DType::BF16) scheme.activations = DType::BF16;
  } else if (bytes) {
    scheme.type = scheme.type.bits == 4 ? kE2M1 : kE4M3;
    scheme.group_size = GroupSize{kMxGroup};
    scheme.scale_dtype = DType::F8_E8M0;
  }
  settle_type(scheme, claims);
  refuse(refusal, scheme, found.k, found.n);
  std::vector<PartSpec> expected = specs(scheme, found.k, found.n);
  if (bytes) expected[1].dtype = part_of(parts, kNames.scales).dtype;  // E8M0 may be labelled U8
  require(parts, expected);
  return found;
}

/// The kernel's place of every row: groups become runs, and inside a group rows keep their order.
std::vector<std::int32_t> order_of(std::span<const std::int32_t> g_idx) {
  std::vector<std::int32_t> order(g_idx.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](std::int32_t row) { return g_idx[static_cast<std::size_t>(row)]; });
  return order;
}

/// Fills out.g_idx and returns perm.
std::vector<std::int32_t> read_order(const PartViews& parts, QuantizedMatrix& out) {
  const std::span<const std::byte> groups = part_of(parts, kGroups).data, perm = part_of(parts, kOrder).data;
  const std::int64_t rows = out.codes.rows();
  std::vector<std::int32_t> order(static_cast<std::size_t>(rows));
  std::vector<bool> seen(order.size());
  std::int64_t previous = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    const auto row = static_cast<std::int32_t>(load_word(perm, i)),
               group = static_cast<std::int32_t>(load_word(groups, i));
    if (row < 0 || row >= rows || seen[static_cast<std::size_t>(row)])
      throw Error{
          ErrorKind::bad_input,
          fmt::format("perm: place {} names row {}; every row of {} must be there once", i, row, rows)};
    if (group < previous || group >= out.scales.rows())
      throw Error{ErrorKind::bad_input, fmt::format("g_idx: place {} is in group {} of {} after group {}", i,
                                                    group, out.scales.rows(), previous)};
    previous = group;
    seen[static_cast<std::size_t>(row)] = true;
    order[static_cast<std::size_t>(i)] = row;
    out.g_idx[static_cast<std::size_t>(row)] = group;
  }
  return order;
}

void write_order(const QuantizedMatrix& q, std::span<const std::int32_t> order, const PartBuffers& out) {
  for (std::size_t i = 0; i < order.size(); ++i) {
    store_word(part_of(out, kOrder).data, static_cast<std::int64_t>(i), static_cast<std::uint32_t>(order[i]));
    store_word(part_of(out, kGroups).data, static_cast<std::int64_t>(i),
               static_cast<std::uint32_t>(q.g_idx[static_cast<std::size_t>(order[i])]));
  }
}

/// The kernel takes them off the codes, where it has scales of groups, too: in their order, whatever the
/// number of groups.
ScaleGrid float_zero_grid(const Geometry& whole) {
  return ScaleGrid::rows(whole.n, ScaleOrder::grouped);
}

ScaleGrid scale_grid(const Geometry& whole, Kind kind) {
  if (kind == Kind::mx) return ScaleGrid::rows(whole.n, ScaleOrder::quad);
  return ScaleGrid::rows(whole.n, marlin_scale_order(whole.scheme.groups(whole.k)),
                         kind == Kind::e4m3 ? e4m3_factor(whole.scheme.scale_dtype) : 1.0f);
}

void write_block_scales(const QuantizedMatrix& q, const Geometry& whole, std::span<std::byte> out) {
  const auto columns = columns_in(ScaleOrder::quad, q.scales.cols());
  const bool is_bf16 = activations_of(whole.scheme, Kind::nvfp4) == DType::BF16;
  for (Eigen::Index group = 0; group < q.scales.rows(); ++group)
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const float scale = q.scales(group, columns[i]);
      const auto byte = kernel_byte(scale);
      const auto fail = [&](ErrorKind kind, const std::string& what) {
        throw Error{kind, fmt::format("the block scale of group {}, column {} is {}{}", group,
                                      q.first_column + columns[i], scale, what)};
      };
      if (!byte && std::signbit(scale))
        fail(ErrorKind::unsupported, "; marlin stores NVFP4 scales without their sign");
      if (!byte) fail(ErrorKind::bad_input, ", no finite F8_E4M3 number");
      if (is_bf16 && scale != 0 && scale < kSmallestScaleBf16)
        fail(ErrorKind::unsupported,
             fmt::format(
                 ", below {}, which kernels with BF16 activations read wrongly; lift all block scales by "
                 "a power of two that the global scale makes up for, or write for F16",
                 kSmallestScaleBf16));
      out[static_cast<std::size_t>(group * whole.n.value + q.first_column) + i] =
          static_cast<std::byte>(*byte);
    }
}

void read_block_scales(std::span<const std::byte> bytes, const Geometry& whole, QuantizedMatrix& out) {
  const auto columns = columns_in(ScaleOrder::quad, out.scales.cols());
  for (Eigen::Index group = 0; group < out.scales.rows(); ++group)
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const auto byte = static_cast<std::uint8_t>(
          bytes[static_cast<std::size_t>(group * whole.n.value + out.first_column) + i]);
      const auto scale = scale_of_kernel_byte(byte);
      if (!scale)
        throw Error{
            ErrorKind::bad_input,
            fmt::format("group {}, column {} stores {:#04x}, which is not 2^7 times an F8_E4M3 number", group,
                        out.first_column + columns[i], byte)};
      out.scales(group, columns[i]) = *scale;
    }
}

void write_global_scale(const QuantizedMatrix& q, const Scheme& scheme, std::span<std::byte> out) {
  const float global = q.global_scale;
  const float factor = nvfp4_factor(activations_of(scheme, Kind::nvfp4)), stored = global * factor;
  if (!std::isfinite(stored) || !(global > 0))
    throw Error{
        ErrorKind::unsupported,
        fmt::format("the global scale is {}, and times {} {}; marlin stores that, finite and positive",
                    global, factor, stored)};
  std::memcpy(out.data(), &stored, sizeof stored);
}

float read_global_scale(std::span<const std::byte> bytes, const Scheme& scheme) {
  float stored;
  std::memcpy(&stored, bytes.data(), sizeof stored);
  const float factor = nvfp4_factor(activations_of(scheme, Kind::nvfp4)), global = stored / factor;
  if (!std::isfinite(stored) || !(stored > 0) || global * factor != stored)
    throw Error{ErrorKind::bad_input, fmt::format("{} stores {}, which is not {} times a positive F32 number",
                                                  kGlobal, stored, factor)};
  return global;
}

void read(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const Scheme& scheme = geometry.scheme;
  const Kind kind = *kind_of(scheme);
  const ColumnWindow window = window_of(out, geometry);
  std::vector<std::int32_t> order;
  if (scheme.act_order) order = read_order(parts, out);
  within(kNames.codes, [&] {
    unpack_marlin(part_of(parts, kNames.codes).data, scheme.type, window, out.codes, order);
    require_numbers(out, ErrorKind::bad_input);
  });
  within(kNames.scales, [&] {
    const std::span<const std::byte> scales = part_of(parts, kNames.scales).data;
    if (kind == Kind::nvfp4) return read_block_scales(scales, geometry, out);
    load_scales(scales, scheme.scale_dtype, scale_grid(geometry, kind), window, out.scales);
  });
  if (kind == Kind::nvfp4) out.global_scale = read_global_scale(part_of(parts, kGlobal).data, scheme);
  if (scheme.zero_points == ZeroPoints::integer)
    read_qzeros(part_of(parts, kZeros).data, geometry, scheme.type.bits == 4 ? ZeroOrder::u4 : ZeroOrder::u8,
                out);
  if (scheme.zero_points == ZeroPoints::floating)
    within(kZeros, [&] {
      load_scales(part_of(parts, kZeros).data, scheme.scale_dtype, float_zero_grid(geometry), window,
                  out.float_zeros);
    });
}

void write(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  const Scheme& scheme = geometry.scheme;
  const Kind kind = *kind_of(scheme);
  const ColumnWindow window = window_of(q, geometry);
  const std::vector<std::int32_t> order = order_of(q.g_idx);
  within(kNames.codes, [&] {
    require_numbers(q, ErrorKind::unsupported);
    pack_marlin(q.codes, scheme.type, window, part_of(out, kNames.codes).data, order);
  });
  within(kNames.scales, [&] {
    const std::span<std::byte> scales = part_of(out, kNames.scales).data;
    if (kind == Kind::nvfp4) return write_block_scales(q, geometry, scales);
    store_scales(q.scales, scheme.scale_dtype, scale_grid(geometry, kind), window, scales);
  });
  if (kind == Kind::nvfp4 && window.first == 0) write_global_scale(q, scheme, part_of(out, kGlobal).data);
  if (scheme.zero_points == ZeroPoints::integer)
    write_qzeros(q, geometry, scheme.type.bits == 4 ? ZeroOrder::u4 : ZeroOrder::u8,
                 part_of(out, kZeros).data);
  if (scheme.zero_points == ZeroPoints::floating)
    within(kZeros, [&] {
      store_scales(q.float_zeros, scheme.scale_dtype, float_zero_grid(geometry), window,
                   part_of(out, kZeros).data);
    });
  if (scheme.act_order && window.first == 0) write_order(q, order, out);
}

nlohmann::json scheme_fields(const Scheme& scheme) {
  nlohmann::json fields = own_scheme_fields(scheme);
  const auto kind = kind_of(scheme);
  if (!kind || *kind == Kind::integer) return fields;
  fields["activations"] = info(activations_of(scheme, *kind)).name;
  if (*kind == Kind::e4m3) fields["scale_exponent"] = std::ilogb(e4m3_factor(scheme.scale_dtype));
  if (*kind == Kind::nvfp4)
    fields["global_scale_exponent"] = std::ilogb(nvfp4_factor(activations_of(scheme, *kind)));
  if (*kind == Kind::nvfp4 || *kind == Kind::mx) fields["scale_order"] = "grouped-quad";
  return fields;
}

}  // namespace

WeightFormat marlin() {
  return {.name = "marlin",
          .family = "marlin",
          .summary = "the layout Marlin kernels read (vLLM's, after its repack): 4 and 8 bit, FP8, NVFP4, MX",
          .suffixes = {kNames.codes, kNames.scales},
          .recognize = recognize,
          .read = read,
          .refusal = refusal,
          .specs = specs,
          .write = write,
          .quantization_config = [](const CheckpointSchemes& schemes) {
            return own_config("marlin", schemes, scheme_fields);
          }};
}

}  // namespace mpk::formats
