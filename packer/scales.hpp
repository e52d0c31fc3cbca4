#pragma once
// Scales between floats and the bytes on disk, in the column order a kernel wants.

#include <cstddef>
#include <span>

#include "packer/format/quantized_matrix.hpp"
#include "packer/pack.hpp"

namespace mpk {

/// Which source column stands where in a stored row.
enum class ScaleOrder {
  plain,    ///< column n at n
  grouped,  ///< kMarlinScalesGrouped in every 64 columns
  single,   ///< kMarlinScalesSingle in every 32 columns
  quad,     ///< kMarlinScalesQuad in every 64 columns
  sparse,   ///< kMarlinScalesSparse in every 8 columns
};

/// What a Marlin kernel with 16-bit activations reads: grouped if there is more than one group, else single.
/// A group_size equal to K is one group.
constexpr ScaleOrder marlin_scale_order(Groups groups) {
  return groups.value > 1 ? ScaleOrder::grouped : ScaleOrder::single;
}

/// Columns a row must be a multiple of.
constexpr int chunk_of(ScaleOrder order) {
  switch (order) {
    case ScaleOrder::plain:
      return 1;
    case ScaleOrder::single:
      return 32;
    case ScaleOrder::sparse:
      return 8;
    case ScaleOrder::grouped:
    case ScaleOrder::quad:
      return 64;
  }
  return 64;
}

/// Where the elements of a (groups, N) matrix stand, in elements.
struct ScaleGrid {
  std::int64_t group_stride, column_stride;
  ScaleOrder order = ScaleOrder::plain;
  std::int64_t columns_per_scale = 1;  ///< Scheme's; only in plain order
  float factor = 1;                    ///< a power of two: what is stored is the scale times this

  static ScaleGrid rows(N total, ScaleOrder order = ScaleOrder::plain, float factor = 1) {
    return {total.value, 1, order, 1, factor};
  }
  static ScaleGrid columns(Groups groups) { return {1, groups.value}; }  ///< (N, groups) row-major
};

/// Writes the window's columns; `out` holds the whole matrix. `dtype` is one of is_exact_in_float32. Throws
/// Error{bad_input} for a scale that is not finite, that `dtype` cannot hold exactly, that differs from the
/// one it shares its place with, or if the place is outside of `out`; Error{unsupported} if the columns are
/// no multiple of the chunk.
void store_scales(const MatrixF& scales, DType dtype, ScaleGrid grid, ColumnWindow window,
                  std::span<std::byte> out);

/// The inverse; `scales` has its size. Throws Error{bad_input} for an infinity, a NaN, or a stored value that
/// is not factor times a number of `dtype`.
void load_scales(std::span<const std::byte> bytes, DType dtype, ScaleGrid grid, ColumnWindow window,
                 MatrixF& scales);

/// columns[i] = which of the columns first .. first + count stands at place i, as numbers from 0.
std::vector<Eigen::Index> columns_in(ScaleOrder order, std::int64_t count);

}  // namespace mpk
