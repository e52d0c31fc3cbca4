#pragma once
// What the integer rows of compressed-tensors share.

#include "packer/formats/formats.hpp"

namespace mpk::formats {

/// Integers in runs of rows or by g_idx, the last group short or not, scales of 16 or 32 bits for groups,
/// columns or the whole matrix.
std::optional<std::string> ct_integer_refusal(const char* name, const Scheme&, K, N);

/// (N, groups) in C order, or (1) for the whole matrix.
Shape ct_scale_shape(const Scheme&, K, N);

/// Where those scales stand.
ScaleGrid ct_scale_grid(const Scheme&, K);

/// Sets group_size, columns_per_scale and scale_dtype from `weight_scale`, whose shape is (N, groups), (1) or
/// (). Throws Error{bad_input} for other shapes.
void set_ct_scales(Scheme&, const PartViews&, K, N, const Claims&);

}  // namespace mpk::formats
