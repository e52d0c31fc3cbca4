#pragma once
// Small tensors of integers, above all g_idx, the group of every row: I32, or I64 in some old files.

#include "packer/formats/formats.hpp"

namespace mpk::formats {

/// Whether integer_at reads this dtype.
bool is_integer(DType dtype);

/// Element i, whatever the width.
std::int64_t integer_at(const TensorView& integers, std::int64_t i);

/// Whether some row is not in the group it would be in if groups were runs. Throws Error{bad_input} for a
/// group that does not exist.
bool is_scrambled(const TensorView& g_idx, K k, std::int64_t groups, std::optional<GroupSize> group_size);

/// Fills out.g_idx if the scheme has act_order. Throws Error{bad_input} for a group that does not exist, and
/// without act_order unless groups are runs.
void read_g_idx(const TensorView& g_idx, const Geometry& geometry, QuantizedMatrix& out);

/// All rows, in the buffer's own dtype; runs of rows if the scheme has no act_order.
void write_g_idx(const QuantizedMatrix& matrix, const Geometry& geometry, const PartBuffer& g_idx);

}  // namespace mpk::formats
