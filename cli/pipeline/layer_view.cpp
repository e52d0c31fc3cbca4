#include "cli/pipeline/layer_view.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/safetensors.hpp"
#include "quantizer/linalg/parallel.hpp"

namespace mpk {
namespace {

/// Copies column `from` of one matrix to column `to` of another of the same rows.
void copy_column(const QuantizedMatrix& source, std::int64_t from, QuantizedMatrix& out, std::int64_t to) {
  out.codes.col(to) = source.codes.col(from);
  out.scales.col(to) = source.scales.col(from);
  if (out.zero_points.size() > 0) out.zero_points.col(to) = source.zero_points.col(from);
  if (out.float_zeros.size() > 0) out.float_zeros.col(to) = source.float_zeros.col(from);
}

void reorder_rows(const ColumnView& view, QuantizedMatrix& q) {
  const std::vector<std::int32_t>& order = *view.row_order;
  std::vector<std::uint8_t> column(order.size());
  for (Eigen::Index col = 0; col < q.codes.cols(); ++col) {
    std::uint8_t* const codes = q.codes.data() + col * q.codes.rows();
    std::copy_n(codes, column.size(), column.begin());
    for (std::size_t k = 0; k < order.size(); ++k) codes[k] = column[static_cast<std::size_t>(order[k])];
  }
  q.g_idx = view.g_idx;
}

std::size_t element_bytes(const TensorView& tensor) {
  return static_cast<std::size_t>(info(tensor.dtype).bits / 8);
}

/// Where column `place` of the piece is in the module.
std::int64_t source_column(const ColumnPiece& piece, std::int64_t place) {
  const std::int64_t column = piece.columns.first + place;
  return piece.column_order ? (*piece.column_order)[static_cast<std::size_t>(column)] : column;
}

/// How many columns of the piece have a bias: all but those that padding added to the layer, at its end.
/// Throws if others have none.
std::int64_t num_biases(const ColumnPiece& piece, const TensorView& bias, const std::string& name) {
  const std::int64_t there = bias.shape.empty() ? 0 : bias.shape.back();
  const std::int64_t n = piece.module->stored.geometry.n.value;
  const std::int64_t count = piece.columns.count == n ? std::min(there, n) : piece.columns.count;
  bool fits = there <= n && count > 0;
  for (std::int64_t j = 0; fits && j < count; ++j) fits = source_column(piece, j) < there;
  if (!fits)
    throw Error{ErrorKind::unsupported, fmt::format("{} has shape {} for {} columns, and cannot be divided",
                                                    name, to_string(bias.shape), n)};
  return count;
}

/// Of a bias (N) or (experts, N): `count` columns of `piece`, into the columns of `out` from `at` on.
void copy_bias(const TensorView& bias, const ColumnPiece& piece, std::int64_t count, Tensor& out,
               std::int64_t at) {
  const std::size_t bytes = element_bytes(bias);
  const std::int64_t from_n = bias.shape.back(), to_n = out.shape.back();
  const std::int64_t experts = static_cast<std::int64_t>(bias.data.size() / bytes) / from_n;
  for (std::int64_t expert = 0; expert < experts; ++expert)
    for (std::int64_t j = 0; j < count; ++j)
      std::memcpy(
          out.data.data() + static_cast<std::size_t>(expert * to_n + at + j) * bytes,
          bias.data.data() + static_cast<std::size_t>(expert * from_n + source_column(piece, j)) * bytes,
          bytes);
}

}  // namespace

LayerView whole_view(const PackedModule& module) {
  const Geometry& geometry = module.stored.geometry;
  LayerView view;
  view.module = module.name;
  view.separator = module.separator;
  view.experts = module.experts;
  view.columns =
      std::make_shared<ColumnView>(ColumnView{{{&module, {0, geometry.n.value}, nullptr}}, geometry});
  view.rows = {0, geometry.k.value};
  view.geometry = geometry;
  return view;
}

bool is_whole(const LayerView& view) {
  const ColumnPiece& first = view.columns->pieces.front();
  return view.columns->pieces.size() == 1 && view.has_all_rows() && !first.column_order &&
         !view.columns->row_order && first.columns.count == first.module->stored.geometry.n.value;
}

std::vector<std::int32_t> g_idx_of(const PackedModule& module, const Checkpoint& checkpoint) {
  const Geometry& geometry = module.stored.geometry;
  if (!geometry.scheme.act_order) return {};
  const ColumnRange some{0, std::min(kColumnUnit, geometry.n.value)};
  return read_columns(module.stored, module.parts(checkpoint), some).g_idx;
}

Order order_by_group(const std::vector<std::int32_t>& g_idx, std::int64_t k) {
  auto order = std::make_shared<std::vector<std::int32_t>>(static_cast<std::size_t>(k));
  std::iota(order->begin(), order->end(), 0);
  std::stable_sort(order->begin(), order->begin() + std::ssize(g_idx), [&](std::int32_t a, std::int32_t b) {
    return g_idx[static_cast<std::size_t>(a)] < g_idx[static_cast<std::size_t>(b)];
  });
  return order;
}

Order inverse_of(const Order& order) {
  auto inverse = std::make_shared<std::vector<std::int32_t>>(order->size());
  for (std::size_t i = 0; i < order->size(); ++i)
    (*inverse)[static_cast<std::size_t>((*order)[i])] = static_cast<std::int32_t>(i);
  return inverse;
}

Order twice(const Order& order, std::int64_t n) {
  const std::size_t half = static_cast<std::size_t>(n) / 2;
  auto both = std::make_shared<std::vector<std::int32_t>>(2 * half);
  for (std::size_t i = 0; i < half; ++i) {
    (*both)[i] = (*order)[i];
    (*both)[half + i] = (*order)[i] + static_cast<std::int32_t>(half);
  }
  return both;
}

void ColumnReader::prepare(const ColumnView& view) {
  for (const ColumnPiece& piece : view.pieces) {
    const PackedModule& module = *piece.module;
    if (!parts_.contains(&module)) parts_.emplace(&module, module.parts(checkpoint_, expert_));
    if (!piece.column_order || unpacked_.contains(&module)) continue;
    const Geometry& geometry = module.stored.geometry;
    QuantizedMatrix all = make_matrix(geometry.scheme, geometry.k, geometry.n);
    const PartViews& parts = parts_.at(&module);
    const auto unpack = [&](std::int64_t begin, std::int64_t end) {
      const QuantizedMatrix some = read_columns(module.stored, parts, {begin, end - begin});
      for (std::int64_t col = begin; col < end; ++col) copy_column(some, col - begin, all, col);
      if (begin == 0) {
        all.g_idx = some.g_idx;
        all.global_scale = some.global_scale;
      }
    };
    parallel_for_chunks(geometry.n.value, 4 * kColumnUnit, unpack);
    unpacked_.emplace(&module, std::move(all));
  }
}

/// Formats are read from multiples of kColumnUnit on.
QuantizedMatrix ColumnReader::read_piece(const ColumnPiece& piece, ColumnRange columns) const {
  const PackedModule& module = *piece.module;
  if (piece.column_order) {
    const QuantizedMatrix& all = unpacked_.at(&module);
    QuantizedMatrix out = make_matrix(all.scheme, all.k(), N{columns.count});
    for (std::int64_t j = 0; j < columns.count; ++j)
      copy_column(all, (*piece.column_order)[static_cast<std::size_t>(columns.first + j)], out, j);
    out.g_idx = all.g_idx;
    out.global_scale = all.global_scale;
    return out;
  }
  const std::int64_t before = columns.first % kColumnUnit;
  QuantizedMatrix read =
      read_columns(module.stored, parts_.at(&module), {columns.first - before, before + columns.count});
  if (before == 0) return read;
  QuantizedMatrix out = make_matrix(read.scheme, read.k(), N{columns.count});
  for (std::int64_t j = 0; j < columns.count; ++j) copy_column(read, before + j, out, j);
  out.g_idx = std::move(read.g_idx);
  out.global_scale = read.global_scale;
  return out;
}

QuantizedMatrix ColumnReader::operator()(const ColumnView& view, ColumnRange columns) const {
  const auto piece_columns = [](const ColumnPiece& piece, std::int64_t begin, std::int64_t count) {
    return ColumnRange{piece.columns.first + begin, count};
  };
  QuantizedMatrix out;
  if (view.pieces.size() == 1) {
    out = read_piece(view.pieces.front(), piece_columns(view.pieces.front(), columns.first, columns.count));
  } else {
    std::int64_t piece_begin = 0;
    const std::int64_t end = columns.first + columns.count;
    for (const ColumnPiece& piece : view.pieces) {
      const std::int64_t begin = std::max(columns.first, piece_begin);
      const std::int64_t count = std::min(end, piece_begin + piece.columns.count) - begin;
      if (count > 0) {
        QuantizedMatrix some = read_piece(piece, piece_columns(piece, begin - piece_begin, count));
        if (out.codes.size() == 0) {
          out = make_matrix(some.scheme, some.k(), N{columns.count});
          out.g_idx = std::move(some.g_idx);
          out.global_scale = some.global_scale;
        }
        for (std::int64_t j = 0; j < count; ++j) copy_column(some, j, out, begin - columns.first + j);
      }
      piece_begin += piece.columns.count;
    }
  }
  if (view.row_order) reorder_rows(view, out);
  out.scheme = view.geometry.scheme;
  out.first_column = columns.first;
  return out;
}

QuantizedMatrix rows_of(const LayerView& view, const QuantizedMatrix& columns) {
  if (view.has_all_rows()) return columns;
  return cut_rows(columns, view.columns->geometry, view.rows, view.geometry);
}

TensorSpec companion_spec(const LayerView& view, const Checkpoint& checkpoint, const std::string& suffix) {
  const std::vector<ColumnPiece>& pieces = view.columns->pieces;
  const std::string first_name = pieces.front().module->tensor_name(suffix);
  const TensorView first = checkpoint.tensor(first_name);
  TensorSpec spec{view.module + view.separator + suffix, first.dtype, first.shape};
  if (is_whole(view)) return spec;
  const auto fail = [](const std::string& what) { throw Error{ErrorKind::unsupported, what}; };
  const std::size_t numbers = static_cast<std::size_t>(std::max<std::int64_t>(1, view.experts));
  std::int64_t biases = 0;
  for (const ColumnPiece& piece : pieces) {
    const std::string name = piece.module->tensor_name(suffix);
    const TensorView tensor = checkpoint.tensor(name);
    if (tensor.dtype != first.dtype) fail(fmt::format("{} and {} differ in dtype", first_name, name));
    if (suffix == "bias") {
      biases += num_biases(piece, tensor, name);
    } else if (tensor.data.size() > numbers * element_bytes(tensor)) {
      fail(fmt::format("{} has shape {}, more than a number, and is not divided", name,
                       to_string(tensor.shape)));
    } else if (!std::ranges::equal(tensor.data, first.data)) {
      fail(fmt::format("{} and {} differ, and one layer has one {}", first_name, name, suffix));
    }
  }
  if (suffix == "bias") spec.shape.back() = biases;
  return spec;
}

Tensor companion_of(const LayerView& view, const Checkpoint& checkpoint, const std::string& suffix) {
  const TensorSpec spec = companion_spec(view, checkpoint, suffix);
  const TensorView first = checkpoint.tensor(view.columns->pieces.front().module->tensor_name(suffix));
  Tensor tensor{spec.dtype, spec.shape, {}};
  if (suffix != "bias" || is_whole(view)) {
    tensor.data.assign(first.data.begin(), first.data.end());
    return tensor;
  }
  tensor.data.resize(tensor_bytes(spec.dtype, spec.shape));
  if (!view.has_bias) return tensor;
  std::int64_t at = 0;
  for (const ColumnPiece& piece : view.columns->pieces) {
    const std::string name = piece.module->tensor_name(suffix);
    const TensorView bias = checkpoint.tensor(name);
    const std::int64_t count = num_biases(piece, bias, name);
    copy_bias(bias, piece, count, tensor, at);
    at += count;
  }
  return tensor;
}

}  // namespace mpk
