#pragma once
// A layer of an artifact as rows and columns of the source's layers: a rank's part, several fused into one,
// rows and columns in another order.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/pipeline/packed_modules.hpp"
#include "packer/io/checkpoint_writer.hpp"
#include "packer/manifest.hpp"
#include "packer/tensor_parallel.hpp"

namespace mpk {

/// A gather: element i is element order[i] of what it is taken from. nullptr: as they are.
using Order = std::shared_ptr<const std::vector<std::int32_t>>;

/// Some columns of one module.
struct ColumnPiece {
  const PackedModule* module = nullptr;
  ColumnRange columns;           ///< of the module, in `column_order`
  Order column_order = nullptr;  ///< of all its columns
};

/// Columns side by side, with all their rows.
struct ColumnView {
  std::vector<ColumnPiece> pieces;
  Geometry geometry = {{}, K{0}, N{0}};
  Order row_order = nullptr;
  std::vector<std::int32_t> g_idx = {};  ///< with row_order: of the rows in their new order, if act_order
};

/// Ranks that need the same columns share one ColumnView, so that they are unpacked once.
struct LayerView {
  std::string module, separator = ".";
  std::int64_t experts = 0;
  std::shared_ptr<const ColumnView> columns;
  RowRange rows;
  Geometry geometry = {{}, K{0}, N{0}};  ///< of these rows
  bool has_bias = true;                  ///< false: another rank has it, and here it is zero
  std::string why_not = {};              ///< there can be no such layer
  std::vector<std::string> notes = {};   ///< what was rearranged, in words
  std::optional<LayerPart> part = {};    ///< for the manifest; nullopt: the whole of one module
  std::optional<LayerFold> fold = {};

  bool has_all_rows() const { return rows.count == columns->geometry.k.value; }
};

/// One module as it is.
LayerView whole_view(const PackedModule& module);
bool is_whole(const LayerView& view);

/// The group of each row, or empty without act_order.
std::vector<std::int32_t> g_idx_of(const PackedModule& module, const Checkpoint& checkpoint);

/// The order that makes the groups of `g_idx` runs; inside a group rows keep theirs. Rows from g_idx.size()
/// to `k`, which padding added, stay where they are.
Order order_by_group(const std::vector<std::int32_t>& g_idx, std::int64_t k);
Order inverse_of(const Order& order);
/// For the columns of gate and up in one layer of `n` columns: `order` on each of the two.
Order twice(const Order& order, std::int64_t n);

/// Unpacks columns of views, of one expert. Modules whose columns are taken in another order are unpacked
/// whole by `prepare`, one byte per code.
class ColumnReader {
 public:
  ColumnReader(const Checkpoint& checkpoint, std::int64_t expert)
      : checkpoint_{checkpoint}, expert_{expert} {}
  /// Before the first column of this view is read, by one thread.
  void prepare(const ColumnView& view);
  /// From any thread. Columns are counted in the view.
  QuantizedMatrix operator()(const ColumnView& view, ColumnRange columns) const;

 private:
  QuantizedMatrix read_piece(const ColumnPiece& piece, ColumnRange columns) const;

  const Checkpoint& checkpoint_;
  std::int64_t expert_;
  std::map<const PackedModule*, PartViews> parts_;
  std::map<const PackedModule*, QuantizedMatrix> unpacked_;
};

/// The rows of the view out of what ColumnReader gave.
QuantizedMatrix rows_of(const LayerView& view, const QuantizedMatrix& columns);

/// The view's tensor for a companion: a bias in the view's columns (zero without has_bias), anything else as
/// it is.
Tensor companion_of(const LayerView& view, const Checkpoint& checkpoint, const std::string& suffix);
/// Its dtype and shape. Throws Error{unsupported} for a tensor that would have to be divided and is no bias,
/// and for modules that cannot be fused because theirs differ.
TensorSpec companion_spec(const LayerView& view, const Checkpoint& checkpoint, const std::string& suffix);

}  // namespace mpk
