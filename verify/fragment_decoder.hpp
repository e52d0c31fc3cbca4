#pragma once
// A second decoder. It goes from the matrix element (k, n) to the bits that hold it, by the drawings of the
// tensor core's fragments in FORMAT.md; the packer goes from the word to its source by a digit map. They
// share no code, so a layout that both get wrong must be wrong in the drawing.

#include <string>

#include "packer/format/quantized_matrix.hpp"
#include "packer/parts.hpp"

namespace mpk {

/// The layer as the fragments hold it. Throws Error{unsupported} for a layout that it has no drawing of,
/// Error{mismatch} for a tensor that is missing or too small.
QuantizedMatrix decode_by_fragments(const std::string& layout, const PartViews& parts, const Scheme& scheme,
                                    K k, N n);

}  // namespace mpk
