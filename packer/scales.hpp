#pragma once
// Scales between the quantizer's floats and 16 bits on disk, in the column order a kernel wants.

#include <cstddef>
#include <span>

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// Which source column stands where in a stored row.
enum class ScaleOrder {
  plain,    ///< column n at n
  grouped,  ///< kMarlinScalesGrouped in every 64 columns
  single,   ///< kMarlinScalesSingle in every 32 columns
};

/// What a Marlin kernel with 16-bit activations reads: grouped if there is more than one group, else single.
/// A group_size equal to K is one group.
constexpr ScaleOrder marlin_scale_order(Groups groups) {
  return groups.value > 1 ? ScaleOrder::grouped : ScaleOrder::single;
}

/// Columns a row must be a multiple of.
constexpr int chunk_of(ScaleOrder order) {
  return order == ScaleOrder::grouped ? 64 : order == ScaleOrder::single ? 32 : 1;
}

/// Writes (groups, N) row-major 16-bit floats, `out.size()` = 2 * groups * N. Throws Error{bad_input} for a
/// scale that is not finite or that `dtype` (F16 or BF16) cannot hold exactly, Error{unsupported} if N is no
/// multiple of the chunk.
void store_scales(const MatrixF& scales, DType dtype, ScaleOrder order, std::span<std::byte> out);

/// The inverse. Throws Error{bad_input} for an infinity or a NaN.
MatrixF load_scales(std::span<const std::byte> bytes, Groups groups, N n, DType dtype, ScaleOrder order);

}  // namespace mpk
