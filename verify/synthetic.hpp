#pragma once
// Packed layers made up on the spot, to prove a kernel on shapes nobody has a checkpoint of here.

#include "packer/manifest.hpp"
#include "packer/weight_format.hpp"

namespace mpk {

struct SyntheticLayer {
  ManifestLayer record;
  std::vector<Part> parts;
};

/// Uniform random codes and scales of both large and small magnitude, stored in `format`. The same seed gives
/// the same bits. Throws Error{unsupported} if the format cannot hold the shape.
SyntheticLayer synthetic_layer(const WeightFormat& format, const Scheme& scheme, K k, N n,
                               std::uint64_t seed);

}  // namespace mpk
