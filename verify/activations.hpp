#pragma once
// Activations to try a kernel on: random, with the outlier channels that real decoders have.

#include <cstdint>
#include <vector>

#include "packer/format/units.hpp"

namespace mpk {

/// (M, K) row-major float16: normal values of standard deviation 0.5; about one channel in 64 is 40 times
/// larger. The same seed gives the same bits everywhere.
std::vector<std::uint16_t> outlier_activations(M m, K k, std::uint64_t seed);

}  // namespace mpk
