// "marlin-24" and "ct-marlin-24": 2:4 sparse Marlin under the names of vLLM's GPTQ checkpoints and of
// compressed-tensors.

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/formats/formats.hpp"
#include "packer/scales.hpp"
#include "packer/sparse24.hpp"

namespace mpk::formats {
namespace {

struct Names {
  const char *row, *codes, *meta, *scales;
};
constexpr Names kMarlin24{"marlin-24", "B_24", "B_meta", "s"};
constexpr Names kCt{"ct-marlin-24", "weight_packed", "meta", "scale_packed"};
constexpr const char* kWorkspace = "workspace";  // zeros, if it is stored at all

template <const Names& kNames>
std::optional<std::string> refusal(const Scheme& scheme, K k, N n) {
  if (auto why = integer_refusal(kNames.row, scheme, k, n)) return why;
  if (scheme.type != kU4B8 && scheme.type != kU8B128)
    return fmt::format("{} has u4b8 and u8b128 codes, not {}", kNames.row, name_of(scheme.type));
  if (scheme.act_order) return fmt::format("{} has no act_order", kNames.row);
  if (scheme.scale_dtype != DType::F16)
    return fmt::format("{} has F16 scales, not {}", kNames.row, info(scheme.scale_dtype).name);
  if (const std::int64_t g = group_size_number(scheme); g != -1 && g != 128)
    return fmt::format("{} has group_size -1 or 128, not {}", kNames.row, g);
  if (k.value % 128 != 0 || n.value % 128 != 0)
    return fmt::format(
        "{} needs K % 128 == 0 and N % 128 == 0; here K = {} (% 128 = {}), N = {} (% 128 = {})", kNames.row,
        k.value, k.value % 128, n.value, n.value % 128);
  return std::nullopt;
}

template <const Names& kNames>
std::vector<PartSpec> specs(const Scheme& scheme, K k, N n) {
  return {{kNames.codes, DType::I32, {k.value / 32, n.value * scheme.type.bits / 2}},
          {kNames.meta, DType::I16, {k.value / 32, n.value * 2}},
          {kNames.scales, DType::F16, {scheme.groups(k).value, n.value}}};
}

template <const Names& kNames>
std::optional<Geometry> recognize(const PartViews& parts, const Claims& claims) {
  if (!has_exactly(parts, {kNames.codes, kNames.meta, kNames.scales}, {kWorkspace})) return std::nullopt;
  const Extents codes = matrix_extents(parts, kNames.codes), scales = matrix_extents(parts, kNames.scales);
  const K k{codes.rows * 32};
  const N n{scales.cols};
  if (codes.cols % n.value != 0 || (codes.cols / n.value != 2 && codes.cols / n.value != 4))
    throw Error{ErrorKind::bad_input,
                fmt::format("{} has {} words a row, {} has {} columns; 2 or 4 words a column are known",
                            kNames.codes, codes.cols, kNames.scales, n.value)};
  Geometry found{{}, k, n};
  found.scheme.type = symmetric_integer(static_cast<int>(codes.cols / n.value * 2));
  found.scheme.group_size = group_size_of(k, scales.rows, claims);
  found.scheme.scale_dtype = part_of(parts, kNames.scales).dtype;
  refuse(refusal<kNames>, found.scheme, k, n);
  PartViews own = parts;
  if (const auto it = own.find(kWorkspace); it != own.end()) own.erase(it);
  require(own, specs<kNames>(found.scheme, k, n));
  return found;
}

/// compressed-tensors compares the group size with the rows that compression leaves: for K = 256 it takes
/// groups of 128 for a single one, and leaves their scales in plain order.
constexpr std::int64_t kQuirkK = 256;

template <const Names& kNames>
ScaleGrid scale_grid(const Geometry& whole) {
  const bool plain = whole.scheme.groups(whole.k).value == 1 || (&kNames == &kCt && whole.k.value == kQuirkK);
  return ScaleGrid::rows(whole.n, plain ? ScaleOrder::plain : ScaleOrder::sparse);
}

template <const Names& kNames>
std::string frame() {
  return fmt::format("{} and {}", kNames.codes, kNames.meta);
}

template <const Names& kNames>
void read(const PartViews& parts, const Geometry& geometry, QuantizedMatrix& out) {
  const ColumnWindow window = window_of(out, geometry);
  within(frame<kNames>(), [&] {
    unpack_marlin_24(part_of(parts, kNames.codes).data, part_of(parts, kNames.meta).data,
                     geometry.scheme.type, window, out.codes);
  });
  within(kNames.scales, [&] {
    load_scales(part_of(parts, kNames.scales).data, geometry.scheme.scale_dtype, scale_grid<kNames>(geometry),
                window, out.scales);
  });
}

void write(const QuantizedMatrix& q, const Geometry& geometry, const PartBuffers& out) {
  constexpr const Names& kNames = kMarlin24;
  const ColumnWindow window = window_of(q, geometry);
  within(frame<kNames>(), [&] {
    pack_marlin_24(q.codes, q.scheme.type, window, part_of(out, kNames.codes).data,
                   part_of(out, kNames.meta).data);
  });
  within(kNames.scales, [&] {
    store_scales(q.scales, q.scheme.scale_dtype, scale_grid<kMarlin24>(geometry), window,
                 part_of(out, kNames.scales).data);
  });
}

}  // namespace

WeightFormat marlin_24() {
  return {
      .name = kMarlin24.row,
      .family = "marlin-24",
      .summary = "2:4 sparse Marlin, as old vLLM versions load it: 4 and 8 bit, F16, group_size -1 or 128",
      .suffixes = {kMarlin24.codes, kMarlin24.meta, kMarlin24.scales},
      .only_24 = true,
      .recognize = recognize<kMarlin24>,
      .read = read<kMarlin24>,
      .refusal = refusal<kMarlin24>,
      .specs = specs<kMarlin24>,
      .write = write,
      .quantization_config = [](const CheckpointSchemes& schemes) {
        return gptq_config("marlin_24", schemes);
      }};
}

// Read only: engines and compressed-tensors itself dropped it.
WeightFormat ct_marlin_24() {
  return {.name = kCt.row,
          .family = "marlin-24-ct",
          .summary = "2:4 sparse Marlin under the names of compressed-tensors (marlin-24); read only",
          .suffixes = {kCt.codes, kCt.meta, kCt.scales},
          .only_24 = true,
          .recognize = recognize<kCt>,
          .read = read<kCt>,
          .refusal = refusal<kCt>,
          .specs = specs<kCt>};
}

}  // namespace mpk::formats
