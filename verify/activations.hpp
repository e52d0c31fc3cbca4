#pragma once
// Activations to try a kernel on: random, with the outlier channels that real decoders have.

#include <cstdint>
#include <vector>

#include "kernels/weight.hpp"
#include "packer/format/units.hpp"

namespace mpk {

/// To nearest even, and back.
std::uint16_t to_bits(float value, Float type);
float to_float(std::uint16_t bits, Float type);

/// (M, K) row-major of `type`: normal values of standard deviation 0.5; about one channel in 64 is 40 times
/// larger. The same seed gives the same bits everywhere.
std::vector<std::uint16_t> outlier_activations(M m, K k, std::uint64_t seed, Float type = Float::f16);

}  // namespace mpk
