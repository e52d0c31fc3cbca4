#pragma once
// A number that many others are divided by.

#include <bit>
#include <cstdint>

#include "packer/format/digit_map.hpp"

namespace mpk {

/// An int like others, at least 1, but numbers from 0 to 2^31 - 1 are divided by it without a division: the
/// GPU has no instruction for one, and takes a tenth of a microsecond. n / d is the upper part of n m, where
/// m is 2^s / d rounded up and s = 31 + ceil(log2 d): what rounding adds is less than 1 / d (Granlund and
/// Montgomery, "Division by invariant integers using multiplication", 1994).
class Divisor {
 public:
  constexpr Divisor() = default;
  constexpr Divisor(int value) : value_{value} {
    const int log = std::bit_width(static_cast<unsigned>(value) - 1);
    shift_ = 31 + log;
    const std::uint64_t divisor = static_cast<unsigned>(value);
    multiplier_ = static_cast<std::uint32_t>(((std::uint64_t{1} << shift_) + divisor - 1) / divisor);
  }
  constexpr MPK_HOST_DEVICE operator int() const { return value_; }

  friend constexpr MPK_HOST_DEVICE int operator/(int n, const Divisor& d) {
    return static_cast<int>(static_cast<std::uint64_t>(static_cast<std::uint32_t>(n)) * d.multiplier_ >>
                            d.shift_);
  }
  friend constexpr MPK_HOST_DEVICE int operator%(int n, const Divisor& d) { return n - n / d * d.value_; }

 private:
  int value_ = 1;
  std::uint32_t multiplier_ = 1u << 31;
  int shift_ = 31;
};

}  // namespace mpk
