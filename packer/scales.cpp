#include "packer/scales.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/float_bits.hpp"
#include "packer/format/layouts.hpp"

namespace mpk {
namespace {

template <DigitMap kMap>
void gather_chunks(std::vector<Eigen::Index>& columns) {
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const std::size_t inside = i % kMap.size();
    columns[i] = static_cast<Eigen::Index>(i - inside) + source<kMap>(static_cast<int>(inside));
  }
}

void require_float(DType dtype) {
  if (!is_exact_in_float32(dtype))
    throw Error{ErrorKind::unsupported, fmt::format("scales cannot be {}", info(dtype).name)};
}

/// The place of column n of the whole matrix, its order aside.
std::int64_t place(std::int64_t n, ScaleGrid grid) {
  if (grid.columns_per_scale == Scheme::kAllColumns) return 0;
  return n / grid.columns_per_scale * grid.column_stride;
}

/// Where the window's i-th stored scale of a group begins, in bytes; groups aside.
std::vector<std::size_t> row_offsets(ScaleGrid grid, ColumnWindow window, std::int64_t count,
                                     std::size_t size) {
  std::vector<std::size_t> offsets(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    offsets[static_cast<std::size_t>(i)] = static_cast<std::size_t>(place(window.first + i, grid)) * size;
  return offsets;
}

void require_room(const MatrixF& scales, ScaleGrid grid, ColumnWindow window, DType dtype,
                  std::size_t bytes) {
  const std::int64_t last =
      (scales.rows() - 1) * grid.group_stride + place(window.first + scales.cols() - 1, grid);
  if (scales.size() == 0 || window.first < 0 || last < 0 ||
      static_cast<std::size_t>(last) >= bytes / bytes_of(dtype))
    throw Error{ErrorKind::bad_input, fmt::format("{} bytes are too few for ({}, {}) {} scales", bytes,
                                                  scales.rows(), window.total.value, info(dtype).name)};
}

}  // namespace

std::vector<Eigen::Index> columns_in(ScaleOrder order, std::int64_t count) {
  if (count % chunk_of(order) != 0)
    throw Error{ErrorKind::unsupported,
                fmt::format("scales of N = {} columns have no Marlin order; multiples "
                            "of {} do",
                            count, chunk_of(order))};
  std::vector<Eigen::Index> columns(static_cast<std::size_t>(count));
  switch (order) {
    case ScaleOrder::plain:
      std::iota(columns.begin(), columns.end(), Eigen::Index{0});
      break;
    case ScaleOrder::grouped:
      gather_chunks<kMarlinScalesGrouped>(columns);
      break;
    case ScaleOrder::single:
      gather_chunks<kMarlinScalesSingle>(columns);
      break;
    case ScaleOrder::quad:
      gather_chunks<kMarlinScalesQuad>(columns);
      break;
    case ScaleOrder::sparse:
      gather_chunks<kMarlinScalesSparse>(columns);
      break;
  }
  return columns;
}

void store_scales(const MatrixF& scales, DType dtype, ScaleGrid grid, ColumnWindow window,
                  std::span<std::byte> out) {
  require_float(dtype);
  require_room(scales, grid, window, dtype, out.size());
  const auto columns = columns_in(grid.order, scales.cols());
  const std::size_t size = bytes_of(dtype), stride = static_cast<std::size_t>(grid.group_stride) * size;
  const auto offsets = row_offsets(grid, window, scales.cols(), size);
  const bool shared = grid.columns_per_scale != 1;
  const std::int64_t block =
      grid.columns_per_scale == Scheme::kAllColumns ? window.total.value : grid.columns_per_scale;
  for (Eigen::Index group = 0; group < scales.rows(); ++group)
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const float scale = scales(group, columns[i]);
      const std::int64_t n = window.first + static_cast<std::int64_t>(i);
      std::byte* to = out.data() + static_cast<std::size_t>(group) * stride + offsets[i];
      const auto fail = [&](const std::string& what) {
        throw Error{ErrorKind::bad_input, fmt::format("the scale of group {}, column {} is {}, {}", group,
                                                      window.first + columns[i], scale, what)};
      };
      // The first column of a block, or of the matrix, writes; the others must agree with it. Nobody else
      // looks at bytes that another thread may be writing.
      if (shared && n % block != 0) {
        const Eigen::Index before = columns[i] - 1;
        if (before >= 0 &&
            std::bit_cast<std::uint32_t>(scales(group, before)) != std::bit_cast<std::uint32_t>(scale))
          fail("another one than its neighbour's, with which it would share its place");
        continue;
      }
      const float stored = scale * grid.factor;
      if (!std::isfinite(scale) || !is_representable(scale, dtype))
        fail(fmt::format("no finite {} number", info(dtype).name));
      if (grid.factor != 1 &&
          (!std::isfinite(stored) || stored / grid.factor != scale || !is_representable(stored, dtype)))
        fail(fmt::format("and its {} times is {}, no finite {} number", grid.factor, stored,
                         info(dtype).name));
      store_exactly(stored, dtype, to);
    }
}

void load_scales(std::span<const std::byte> bytes, DType dtype, ScaleGrid grid, ColumnWindow window,
                 MatrixF& scales) {
  require_float(dtype);
  require_room(scales, grid, window, dtype, bytes.size());
  const auto columns = columns_in(grid.order, scales.cols());
  const std::size_t size = bytes_of(dtype), stride = static_cast<std::size_t>(grid.group_stride) * size;
  const auto offsets = row_offsets(grid, window, scales.cols(), size);
  for (Eigen::Index group = 0; group < scales.rows(); ++group)
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const float stored =
          load_float(bytes.data() + static_cast<std::size_t>(group) * stride + offsets[i], dtype);
      if (!std::isfinite(stored))
        throw Error{ErrorKind::bad_input, fmt::format("the scale of group {}, column {} is not finite", group,
                                                      window.first + columns[i])};
      const float scale = stored / grid.factor;
      if (grid.factor != 1 && (scale * grid.factor != stored || !is_representable(scale, dtype)))
        throw Error{ErrorKind::bad_input,
                    fmt::format("group {}, column {} stores {}, which is not {} times an {} number", group,
                                window.first + columns[i], stored, grid.factor, info(dtype).name)};
      scales(group, columns[i]) = scale;
    }
}

}  // namespace mpk
