#include "packer/formats/marlin_layout.hpp"

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

}  // namespace mpk::formats
