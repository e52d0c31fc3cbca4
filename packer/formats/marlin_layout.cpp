#include "packer/formats/marlin_layout.hpp"

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/layouts.hpp"
#include "packer/pack.hpp"
#include "packer/scales.hpp"
#include "packer/unpack.hpp"

namespace mpk::formats {

std::vector<PartSpec> marlin_specs(const MarlinNames& names, const Scheme& scheme, K k, N n) {
  return {{names.codes, DType::I32, {k.value / kTileK, n.value * kTileK / scheme.type.pack_factor()}},
          {names.scales, scheme.scale_dtype, {scheme.groups(k).value, n.value}}};
}

std::vector<Part> encode_marlin(const MarlinNames& names, const QuantizedMatrix& q) {
  require_consistent(q);
  std::vector<Part> parts = allocate(marlin_specs(names, q.scheme, q.k(), q.n()));
  within(names.codes, [&] { pack_marlin(q.codes, q.scheme.type, parts[0].tensor.data); });
  within(names.scales, [&] {
    store_scales(q.scales, q.scheme.scale_dtype, marlin_scale_order(q.scheme.groups(q.k())),
                 parts[1].tensor.data);
  });
  return parts;
}

QuantizedMatrix decode_marlin(const MarlinNames& names, const PartViews& parts, const Scheme& scheme, K k,
                              N n) {
  require(parts, marlin_specs(names, scheme, k, n));
  const Groups groups = scheme.groups(k);
  return {scheme, unpack_marlin(part_of(parts, names.codes).data, k, n, scheme.type),
          within(names.scales, [&] {
            return load_scales(part_of(parts, names.scales).data, groups, n, scheme.scale_dtype,
                               marlin_scale_order(groups));
          })};
}

Geometry marlin_geometry(const MarlinNames& names, const PartViews& parts) {
  const Extents codes = matrix_extents(parts, names.codes), scales = matrix_extents(parts, names.scales);
  const K k{codes.rows * kTileK};
  const N n{scales.cols};
  if (codes.cols % n.value != 0 || codes.cols / n.value * 2 > 32)
    throw Error{ErrorKind::bad_input,
                fmt::format("{} has {} words a row, {} has {} columns; 2 or 4 words a column are known",
                            names.codes, codes.cols, names.scales, n.value)};
  return {scheme_from(codes.cols / n.value * 2, k, Groups{scales.rows}, part_of(parts, names.scales).dtype),
          k, n};
}

}  // namespace mpk::formats
