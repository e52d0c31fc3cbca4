#pragma once
// The inverses of pack.hpp.

#include <cstddef>
#include <span>

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// `words` may be unaligned. Throws Error{unsupported} like pack_marlin, Error{bad_input} if the size is not
/// packed_bytes.
Codes unpack_marlin(std::span<const std::byte> words, K k, N n, ScalarType type);

/// Likewise for pack_gptq.
Codes unpack_gptq(std::span<const std::byte> words, K k, N n, ScalarType type);

}  // namespace mpk
