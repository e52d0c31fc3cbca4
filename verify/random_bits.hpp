#pragma once
// Random numbers that are the same everywhere and can be drawn in any order, from any thread: a hash of a
// counter. (The standard's distributions differ between libraries.)

#include <cstdint>

namespace mpk {

/// The splitmix64 generator's output function: every input gives an independent-looking 64-bit value.
constexpr std::uint64_t random_bits(std::uint64_t counter) {
  counter += 0x9e3779b97f4a7c15u;
  counter = (counter ^ (counter >> 30)) * 0xbf58476d1ce4e5b9u;
  counter = (counter ^ (counter >> 27)) * 0x94d049bb133111ebu;
  return counter ^ (counter >> 31);
}

/// In (0, 1).
constexpr double random_unit(std::uint64_t bits) {
  return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53;
}

}  // namespace mpk
