#pragma once
// What the second decoders read tensors with.

#include <cstring>
#include <span>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/parts.hpp"

namespace mpk {

/// Bounds-checked, alignment-free reads of little-endian elements.
template <class T>
class Elements {
 public:
  Elements(const PartViews& parts, const char* suffix, std::int64_t count) {
    const auto it = parts.find(suffix);
    if (it == parts.end()) throw Error{ErrorKind::mismatch, fmt::format("tensor {} is missing", suffix)};
    bytes_ = it->second.data;
    if (bytes_.size() != static_cast<std::size_t>(count) * sizeof(T))
      throw Error{ErrorKind::mismatch,
                  fmt::format("tensor {} has {} bytes, the layer needs {}", suffix, bytes_.size(),
                              static_cast<std::size_t>(count) * sizeof(T))};
  }
  T operator[](std::int64_t i) const {
    T value;
    std::memcpy(&value, bytes_.data() + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
};

using Words = Elements<std::uint32_t>;
using Halves = Elements<std::uint16_t>;

}  // namespace mpk
