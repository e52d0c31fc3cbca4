#pragma once
// NumPy's .npy files, as far as token ids need them.

#include <cstddef>
#include <span>
#include <vector>

#include "packer/format/tensor.hpp"

namespace mpk::tok {

/// An array of integers in C order, little-endian, versions 1 to 3; the view's data lies in `file`.
/// Throws Error{bad_input} if the file is malformed (one byte too many is), Error{unsupported} for other
/// element types, big-endian and Fortran order.
TensorView parse_npy(std::span<const std::byte> file);

}  // namespace mpk::tok
