#include "packer/formats/marlin_layout.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/layouts.hpp"
#include "packer/pack.hpp"
#include "packer/scales.hpp"

namespace mpk::formats {

std::vector<PartSpec> marlin_specs(const MarlinNames& names, const Scheme& scheme, K k, N n) {
  return {{names.codes, DType::I32, {k.value / kTileK, n.value * kTileK / scheme.type.pack_factor()}},
          {names.scales, scheme.scale_dtype, {scheme.groups(k).value, n.value}}};
}

void write_marlin(const MarlinNames& names, const QuantizedMatrix& q, const Geometry& whole,
                  const PartBuffers& out) {
  const ColumnWindow window = window_of(q, whole);
  within(names.codes, [&] { pack_marlin(q.codes, q.scheme.type, window, part_of(out, names.codes).data); });
  within(names.scales, [&] {
    store_scales(q.scales, q.scheme.scale_dtype,
                 ScaleGrid::rows(whole.n, marlin_scale_order(whole.scheme.groups(whole.k))), window,
                 part_of(out, names.scales).data);
  });
}

void read_marlin(const MarlinNames& names, const PartViews& parts, const Geometry& whole,
                 QuantizedMatrix& out) {
  const ColumnWindow window = window_of(out, whole);
  within(names.codes,
         [&] { unpack_marlin(part_of(parts, names.codes).data, whole.scheme.type, window, out.codes); });
  within(names.scales, [&] {
    load_scales(part_of(parts, names.scales).data, whole.scheme.scale_dtype,
                ScaleGrid::rows(whole.n, marlin_scale_order(whole.scheme.groups(whole.k))), window,
                out.scales);
  });
}

Geometry marlin_geometry(const MarlinNames& names, const PartViews& parts, const Claims& claims) {
  const Extents codes = matrix_extents(parts, names.codes), scales = matrix_extents(parts, names.scales);
  const K k{codes.rows * kTileK};
  const N n{scales.cols};
  if (codes.cols % n.value != 0 || (codes.cols / n.value != 2 && codes.cols / n.value != 4))
    throw Error{ErrorKind::bad_input,
                fmt::format("{} has {} words a row, {} has {} columns; 2 or 4 words a column are known",
                            names.codes, codes.cols, names.scales, n.value)};
  Geometry found{{}, k, n};
  found.scheme.type = symmetric_integer(static_cast<int>(codes.cols / n.value * 2));
  found.scheme.scale_dtype = part_of(parts, names.scales).dtype;
  found.scheme.group_size = group_size_of(k, scales.rows, claims);
  return found;
}

std::optional<std::string> marlin_tile_refusal(const char* name, K k, N n) {
  const bool wide_k = n.value % 64 == 0 && k.value % 128 == 0,
             wide_n = n.value % 128 == 0 && k.value % 64 == 0;
  if (wide_k || wide_n) return std::nullopt;
  return fmt::format(
      "{} needs K % 128 == 0 and N % 64 == 0, or K % 64 == 0 and N % 128 == 0; here K = {} (% 128 = {}), N = "
      "{} (% 128 = {}); leave the module unquantized or use format gptq",
      name, k.value, k.value % 128, n.value, n.value % 128);
}

std::optional<std::string> marlin_group_refusal(const char* name, const Scheme& scheme) {
  const std::int64_t g = group_size_number(scheme);
  if (g == -1 || g == 32 || g == 64 || g == 128) return std::nullopt;
  return fmt::format("{} kernels read group_size -1, 32, 64 and 128, not {}", name, g);
}

bool may_be_ours(const Claims& claims, std::string_view dialect, bool with_anonymous) {
  if (claims.method == "marlin-pack")
    return claims.dialect == dialect || (with_anonymous && claims.dialect.empty());
  return with_anonymous && claims.method.empty();
}

void settle_type(Scheme& found, const Claims& claims) {
  const bool stored_zeros = found.zero_points != ZeroPoints::implied;
  const auto contradicts = [&](const std::string& claim) {
    throw Error{ErrorKind::bad_input,
                fmt::format("the configuration says {}, the tensors say {}-bit codes {} zero points", claim,
                            found.type.bits, stored_zeros ? "with" : "without")};
  };
  if (claims.type) {
    const bool is_stored = claims.type->is_integer() && claims.type->bias == 0;
    const bool is_sixteen = found.scale_dtype == DType::F16 || found.scale_dtype == DType::BF16;
    if (claims.type->bits != found.type.bits || is_stored != stored_zeros ||
        (claims.type->is_integer()
             ? !found.type.is_integer()
             : found.type != *claims.type && !(claims.type == kE4M3 && found.type == kU8B128 && is_sixteen)))
      contradicts(std::string{"type "} + name_of(*claims.type));
    found.type = *claims.type;
  }
  if (claims.bits && *claims.bits != found.type.bits) contradicts(fmt::format("{} bits", *claims.bits));
  if (claims.symmetric && found.type.is_integer() && *claims.symmetric == stored_zeros)
    contradicts(stored_zeros ? "no zero points" : "zero points");
  if (claims.act_order.value_or(false) && !found.act_order)
    throw Error{ErrorKind::bad_input, "the configuration says act_order, but there is no g_idx"};
}

namespace {

constexpr int kZeroColumns = 64;

const std::array<int, kZeroColumns>& zero_columns(ZeroOrder order) {
  static constexpr auto kU4Order = gather_table<kMarlinZerosU4>(), kU8Order = gather_table<kMarlinZerosU8>(),
                        kA8Order = gather_table<kMarlinScalesGrouped>();
  return order == ZeroOrder::u4 ? kU4Order : order == ZeroOrder::u8 ? kU8Order : kA8Order;
}

}  // namespace

PartSpec qzeros_spec(const Scheme& scheme, K k, N n) {
  return {"qzeros", DType::I32, {scheme.groups(k).value, n.value * scheme.type.bits / 32}};
}

void require_zeros_fit(const QuantizedMatrix& q) {
  const int last = q.scheme.type.max_code();
  for (Eigen::Index col = 0; col < q.zero_points.cols(); ++col)
    for (Eigen::Index group = 0; group < q.zero_points.rows(); ++group)
      if (const int zero = q.zero_points(group, col); zero < 0 || zero > last)
        throw Error{ErrorKind::unsupported,
                    fmt::format("qzeros: the zero point of group {}, column {} is {}; marlin stores 0 to {}",
                                group, q.first_column + col, zero, last)};
}

void write_qzeros(const QuantizedMatrix& q, const Geometry& whole, ZeroOrder order,
                  std::span<std::byte> out) {
  require_zeros_fit(q);
  const auto& columns = zero_columns(order);
  const int bits = q.scheme.type.bits;
  for (Eigen::Index group = 0; group < q.zero_points.rows(); ++group)
    for (Eigen::Index chunk = 0; chunk < q.zero_points.cols(); chunk += kZeroColumns)
      for (int i = 0; i < kZeroColumns; ++i)
        add_stream_element(
            out, group * whole.n.value + q.first_column + chunk + i, bits,
            static_cast<std::uint32_t>(q.zero_points(group, chunk + columns[static_cast<std::size_t>(i)])));
}

void read_qzeros(std::span<const std::byte> words, const Geometry& whole, ZeroOrder order,
                 QuantizedMatrix& out) {
  const auto& columns = zero_columns(order);
  const int bits = whole.scheme.type.bits;
  for (Eigen::Index group = 0; group < out.zero_points.rows(); ++group)
    for (Eigen::Index chunk = 0; chunk < out.zero_points.cols(); chunk += kZeroColumns)
      for (int i = 0; i < kZeroColumns; ++i)
        out.zero_points(group, chunk + columns[static_cast<std::size_t>(i)]) = static_cast<std::int16_t>(
            stream_element(words, group * whole.n.value + out.first_column + chunk + i, bits));
}

void require_numbers(const QuantizedMatrix& q, ErrorKind kind) {
  if (q.scheme.type != kE4M3) return;
  const auto is_nan = [](std::uint8_t code) { return (code & 0x7fu) == 0x7fu; };
  const std::uint8_t* const end = q.codes.data() + q.codes.size();
  int found = 0;
  for (const std::uint8_t* code = q.codes.data(); code != end; ++code) found |= is_nan(*code);
  if (found == 0) return;
  const auto at = std::find_if(q.codes.data(), end, is_nan) - q.codes.data();
  throw Error{kind,
              fmt::format("the code at (k, n) = ({}, {}) is {:#04x}, which is no number", at % q.codes.rows(),
                          q.first_column + at / q.codes.rows(), q.codes.data()[at])};
}

nlohmann::json own_scheme_fields(const Scheme& scheme) {
  return {{"type", name_of(scheme.type)},
          {"bits", scheme.type.bits},
          {"group_size", group_size_number(scheme)},
          {"scale_dtype", info(scheme.scale_dtype).name},
          {"zero_points", scheme.zero_points != ZeroPoints::implied},
          {"act_order", scheme.act_order}};
}

nlohmann::json own_config(const char* checkpoint_format, const CheckpointSchemes& schemes,
                          nlohmann::json (*fields)(const Scheme&)) {
  nlohmann::json config = fields(schemes.common);
  config["quant_method"] = "marlin-pack";
  config["checkpoint_format"] = checkpoint_format;
  config["lm_head"] = false;
  config["overrides"] = nlohmann::json::object();
  for (const auto& [module, scheme] : real_exceptions(schemes)) config["overrides"][module] = fields(scheme);
  config["ignore"] = schemes.unquantized;
  return config;
}

}  // namespace mpk::formats
