#pragma once
// What the two Marlin rows share: the same bytes under other names and limits. Codes as I32 (K / 16, N * bits
// / 2) in the layout D4 or D8, scales (groups, N) in the kernel's order.

#include "packer/formats/formats.hpp"

namespace mpk::formats {

struct MarlinNames {
  const char *codes, *scales;
};

/// {codes, scales}
std::vector<PartSpec> marlin_specs(const MarlinNames&, const Scheme&, K, N);
void write_marlin(const MarlinNames&, const QuantizedMatrix&, const Geometry&, const PartBuffers&);
void read_marlin(const MarlinNames&, const PartViews&, const Geometry&, QuantizedMatrix&);
Geometry marlin_geometry(const MarlinNames&, const PartViews&, const Claims&);

}  // namespace mpk::formats
