// "ct-int-quantized": compressed-tensors' signed bytes, with or without quantized activations.

#include <cstring>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/formats/compressed_tensors.hpp"

namespace mpk::formats {
namespace {

/// A signed byte and our unsigned code differ in the highest bit.
constexpr std::uint64_t kSign = 0x8080808080808080u;
constexpr int kMiddle = 128;

std::optional<std::string> refusal(const Scheme& scheme, K k, N n) {
  if (auto why = ct_integer_refusal("ct-int-quantized", scheme, k, n)) return why;
  if (scheme.type.bits != 8)
    return fmt::format("ct-int-quantized holds 8-bit codes, not {}", name_of(scheme.type));
  if (scheme.act_order) return "ct-int-quantized has no g_idx; use format ct-pack-quantized";
  return std::nullopt;
}

std::vector<PartSpec> specs(const Scheme& scheme, K k, N n) {
  const Shape scales = ct_scale_shape(scheme, k, n);
  std::vector<PartSpec> result{{"weight", DType::I8, {n.value, k.value}},
                               {"weight_scale", scheme.scale_dtype, scales}};
  if (scheme.zero_points == ZeroPoints::integer) result.push_back({"weight_zero_point", DType::I8, scales});
  return result;
}

std::optional<Geometry> recognize(const PartViews& parts, const Claims& claims) {
  if (!has_exactly(parts, {"weight", "weight_scale"}, {"weight_zero_point"}) ||
      part_of(parts, "weight").dtype != DType::I8)
    return std::nullopt;
  const Extents weight = matrix_extents(parts, "weight");
  Geometry found{{}, K{weight.cols}, N{weight.rows}};
  found.scheme.type = kU8B128;
  if (has_part(parts, "weight_zero_point")) {
    found.scheme.type = kU8;
    found.scheme.zero_points = ZeroPoints::integer;
  }
  set_ct_scales(found.scheme, parts, found.k, found.n, claims);
  refuse(refusal, found.scheme, found.k, found.n);
  std::vector<PartSpec> expected = specs(found.scheme, found.k, found.n);
  if (found.scheme.columns_per_scale == Scheme::kAllColumns)  // (1) or a scalar
    for (std::size_t i = 1; i < expected.size(); ++i)
      if (const Shape& shape = part_of(parts, expected[i].suffix).shape; shape.empty())
        expected[i].shape = shape;
  require(parts, expected);
  return found;
}

/// Bytes with the other meaning of the highest bit; it is its own inverse.
void flip_signs(const void* from, void* to, std::size_t count) {
  const auto* in = static_cast<const std::byte*>(from);
  auto* out = static_cast<std::byte*>(to);
  for (; count >= 8; count -= 8, in += 8, out += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, in, sizeof eight);
    eight ^= kSign;
    std::memcpy(out, &eight, sizeof eight);
  }
  for (; count > 0; --count) *out++ = *in++ ^ std::byte{kMiddle};
}

/// Where the zero points stand, of which there is one per scale.
std::size_t zero_place(const Geometry& geometry, Eigen::Index group, std::int64_t column) {
  if (geometry.scheme.columns_per_scale == Scheme::kAllColumns) return 0;
  return static_cast<std::size_t>(column * geometry.scheme.groups(geometry.k).value + group);
}

void read(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const ColumnWindow window = window_of(out, geometry);
  flip_signs(part_of(parts, "weight").data.data() + window.first * geometry.k.value, out.codes.data(),
             static_cast<std::size_t>(out.codes.size()));
  within("weight_scale", [&] {
    load_scales(part_of(parts, "weight_scale").data, geometry.scheme.scale_dtype,
                ct_scale_grid(geometry.scheme, geometry.k), window, out.scales);
  });
  if (geometry.scheme.zero_points != ZeroPoints::integer) return;
  const std::span<const std::byte> zeros = part_of(parts, "weight_zero_point").data;
  for (Eigen::Index col = 0; col < out.codes.cols(); ++col)
    for (Eigen::Index group = 0; group < out.scales.rows(); ++group)
      out.zero_points(group, col) = static_cast<std::int16_t>(
          static_cast<std::int8_t>(zeros[zero_place(geometry, group, window.first + col)]) + kMiddle);
}

void write(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  const ColumnWindow window = window_of(q, geometry);
  flip_signs(q.codes.data(), part_of(out, "weight").data.data() + window.first * geometry.k.value,
             static_cast<std::size_t>(q.codes.size()));
  within("weight_scale", [&] {
    store_scales(q.scales, geometry.scheme.scale_dtype, ct_scale_grid(geometry.scheme, geometry.k), window,
                 part_of(out, "weight_scale").data);
  });
  if (geometry.scheme.zero_points != ZeroPoints::integer) return;
  const bool shared = geometry.scheme.columns_per_scale == Scheme::kAllColumns;
  const std::span<std::byte> zeros = part_of(out, "weight_zero_point").data;
  for (Eigen::Index col = 0; col < q.codes.cols(); ++col)
    for (Eigen::Index group = 0; group < q.scales.rows(); ++group) {
      const int zero = q.zero_points(group, col);
      const auto refuse_zero = [&](const std::string& why) {
        throw Error{ErrorKind::unsupported, fmt::format("the zero point of group {}, column {} is {}; {}",
                                                        group, window.first + col, zero, why)};
      };
      if (zero < 0 || zero > kU8.max_code()) refuse_zero("ct-int-quantized stores 0 to 255");
      if (shared && col > 0 && zero != q.zero_points(group, col - 1))
        refuse_zero("its neighbour has another, with which it would share its place");
      if (!shared || window.first + col == 0)
        zeros[zero_place(geometry, group, window.first + col)] = static_cast<std::byte>(zero - kMiddle);
    }
}

}  // namespace

WeightFormat ct_int_quantized() {
  return {.name = "ct-int-quantized",
          .family = "compressed-tensors",
          .summary = "compressed-tensors' signed bytes (W8A8): 8 bit, as checkpoints of that kind come",
          .suffixes = {"weight", "weight_scale"},
          .recognize = recognize,
          .read = read,
          .refusal = refusal,
          .specs = specs,
          .write = write,
          .quantization_config = compressed_tensors_config};
}

}  // namespace mpk::formats
