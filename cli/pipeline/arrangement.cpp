#include "cli/pipeline/arrangement.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk {
namespace {

using Modules = std::map<std::string, const PackedModule*>;

Modules modules_of(const PackedCheckpoint& source) {
  Modules modules;
  for (const PackedModule& module : source.modules()) modules.emplace(module.name, &module);
  return modules;
}

/// "model.layers.0.mlp." of "model.layers.0.mlp.down_proj".
std::string parent_of(const std::string& module) {
  return module.substr(0, module.size() - last_component(module).size());
}

// ---- folding

/// A layer whose rows are put into another order, or whose columns are, to match.
struct Reordered {
  Order order;  ///< of the rows of `fold.order_of`
  LayerFold fold;
  bool has_gate_and_up = false;  ///< of columns: both in one layer
  bool is_rows() const { return !fold.g_idx.empty(); }
};
using Reorderings = std::map<std::string, Reordered>;

struct FoldableMlp {
  const char* consumer;
  std::vector<const char*> producers;
};

/// act(gate) * up is computed element by element, so the order of its elements is free. The order of other
/// layers' inputs is not: heads lie between v_proj and o_proj, and everything that adds to the residual
/// stream before q_proj and gate_proj.
const FoldableMlp kFoldable[] = {
    {"down_proj", {"gate_proj", "up_proj"}}, {"down_proj", {"gate_up_proj"}}, {"w2", {"w1", "w3"}}};

class Folding {
 public:
  Folding(const PackedCheckpoint& source, const Modules& modules) : source_{source}, modules_{modules} {}

  Reorderings operator()(std::vector<std::string>& notes) {
    for (const auto& [name, module] : modules_) {
      if (!module->stored.geometry.scheme.act_order || source_.fold_of(name)) continue;
      const std::string_view kind = last_component(name);
      if (std::ranges::none_of(kFoldable, [&](const FoldableMlp& row) { return kind == row.consumer; }))
        continue;
      const std::string why = fold(*module);
      if (!why.empty()) notes.push_back(fmt::format("{}: its order is not folded: {}", name, why));
    }
    return std::move(reorderings_);
  }

 private:
  /// Why not; "": it is done.
  std::string fold(const PackedModule& consumer) {
    const std::string parent = parent_of(consumer.name);
    std::vector<const PackedModule*> producers;
    for (const FoldableMlp& row : kFoldable) {
      if (last_component(consumer.name) != row.consumer || !producers.empty()) continue;
      for (const char* kind : row.producers)
        if (const auto it = modules_.find(parent + kind); it != modules_.end())
          producers.push_back(it->second);
      if (producers.size() != row.producers.size()) producers.clear();
    }
    if (producers.empty()) return fmt::format("{} has no packed gate and up projections", parent);
    if (consumer.experts != 0) return "its experts are stored together";
    const Geometry& geometry = consumer.stored.geometry;
    const std::vector<std::int32_t> g_idx = g_idx_of(consumer, source_.checkpoint());
    const Order order = order_by_group(g_idx, geometry.k.value);
    for (std::size_t i = 0; i < order->size(); ++i)
      if (g_idx[static_cast<std::size_t>((*order)[i])] !=
          static_cast<std::int64_t>(i) / geometry.scheme.rows_per_group(geometry.k))
        return fmt::format("its groups do not have {} rows each", geometry.scheme.rows_per_group(geometry.k));
    for (const PackedModule* producer : producers)
      if (const std::string why = producer_refusal(*producer, geometry.k, producers.size()); !why.empty())
        return why;
    if (const std::string other = other_tensor(parent, consumer, producers); !other.empty())
      return fmt::format("{} may depend on it", other);
    reorderings_[consumer.name] = {order, {consumer.name, g_idx}};
    for (const PackedModule* producer : producers)
      reorderings_[producer->name] = {order, {consumer.name}, producers.size() == 1};
    return "";
  }

  static std::string producer_refusal(const PackedModule& producer, K k, std::size_t num_producers) {
    const Geometry& geometry = producer.stored.geometry;
    const std::int64_t columns = num_producers == 1 ? 2 * k.value : k.value;
    if (producer.experts != 0 || geometry.n.value != columns)
      return fmt::format("{} has {} columns for {} rows", producer.name, geometry.n.value, k.value);
    if (geometry.scheme.columns_per_scale != 1)
      return fmt::format("columns of {} share scales", producer.name);
    return "";
  }

  /// A tensor of the same block that is none of its layers': a norm over the intermediate activation would
  /// have to be put into the same order.
  std::string other_tensor(const std::string& parent, const PackedModule& consumer,
                           const std::vector<const PackedModule*>& producers) const {
    std::set<std::string> known;
    const auto add = [&](const PackedModule& module) {
      for (const auto* suffixes : {&module.suffixes, &module.companions})
        for (const std::string& suffix : *suffixes) known.insert(module.tensor_name(suffix));
    };
    add(consumer);
    for (const PackedModule* producer : producers) add(*producer);
    const std::vector<std::string>& names = source_.checkpoint().names();
    for (auto it = std::ranges::lower_bound(names, parent); it != names.end() && it->starts_with(parent);
         ++it)
      if (!known.contains(*it)) return *it;
    return "";
  }

  const PackedCheckpoint& source_;
  const Modules& modules_;
  Reorderings reorderings_;
};

/// The columns of a module in an order that belongs to the rows of another.
Order column_order(const Reordered& how, const PackedModule& module) {
  return how.has_gate_and_up ? twice(how.order, module.stored.geometry.n.value) : how.order;
}

/// `order`, and what follows it as it is.
Order extended(const Order& order, std::int64_t n) {
  auto all = std::make_shared<std::vector<std::int32_t>>(*order);
  while (std::ssize(*all) < n) all->push_back(static_cast<std::int32_t>(all->size()));
  return all;
}

// ---- fusing

struct FusedKind {
  const char* name;
  std::vector<const char*> parts;
};
const FusedKind kFused[] = {{"qkv_proj", {"q_proj", "k_proj", "v_proj"}},
                            {"gate_up_proj", {"gate_proj", "up_proj"}}};

struct UnitModules {
  std::string name;
  std::vector<const PackedModule*> modules;
};

/// In the order of their first modules.
std::vector<UnitModules> fuse(const PackedCheckpoint& source, const Modules& modules,
                              std::vector<std::string>& notes) {
  std::vector<UnitModules> units;
  std::set<std::string> used;
  for (const auto& [name, module] : modules) {
    if (used.contains(name)) continue;
    UnitModules unit{name, {module}};
    const std::string parent = parent_of(name);
    const std::string_view kind = last_component(name);
    for (const FusedKind& fused : kFused) {
      if (std::ranges::find(fused.parts, kind) == fused.parts.end()) continue;
      std::vector<const PackedModule*> parts;
      std::string missing;
      for (const char* part : fused.parts) {
        if (const auto it = modules.find(parent + part); it != modules.end())
          parts.push_back(it->second);
        else
          missing = parent + part;
      }
      if (missing.empty()) {
        unit = {parent + fused.name, std::move(parts)};
      } else if (source.checkpoint().contains(missing + ".weight")) {
        notes.push_back(fmt::format("{} is not fused: {} is not packed", name, missing));
      }
    }
    for (const PackedModule* part : unit.modules) used.insert(part->name);
    units.push_back(std::move(unit));
  }
  return units;
}

float global_scale_of(const PackedModule& module, const Checkpoint& checkpoint) {
  const ColumnRange some{0, std::min(kColumnUnit, module.stored.geometry.n.value)};
  return read_columns(module.stored, module.parts(checkpoint), some).global_scale;
}

/// Why `modules` cannot be one layer; "": they can.
std::string fuse_refusal(const std::vector<const PackedModule*>& modules, const Checkpoint& checkpoint) {
  const PackedModule& first = *modules.front();
  const Geometry& geometry = first.stored.geometry;
  for (const PackedModule* module : modules) {
    Scheme scheme = module->stored.geometry.scheme;
    scheme.columns_per_scale = geometry.scheme.columns_per_scale;
    if (module->experts != 0) return "stacks of experts are not fused";
    if (scheme != geometry.scheme || module->stored.geometry.k != geometry.k)
      return fmt::format("{} is {} with K = {}, {} is {} with K = {}", first.name, to_string(geometry.scheme),
                         geometry.k.value, module->name, to_string(scheme), module->stored.geometry.k.value);
    if (module->companions != first.companions)
      return fmt::format("{} and {} do not have the same bias and scales of activations", first.name,
                         module->name);
    if (geometry.scheme.act_order && g_idx_of(*module, checkpoint) != g_idx_of(first, checkpoint))
      return fmt::format("the rows of {} and {} have different orders", first.name, module->name);
    if (geometry.scheme.global_scale != GlobalScale::none &&
        global_scale_of(*module, checkpoint) != global_scale_of(first, checkpoint))
      return fmt::format("{} and {} have different global scales", first.name, module->name);
  }
  return "";
}

/// Why a layer that padding made larger is not divided or fused; "": it is as the model has it.
std::string padding_refusal(const PackedModule& module, const PackedCheckpoint& source) {
  const LayerOrigin origin = source.origin_of(module);
  const Geometry& stored = module.stored.geometry;
  if (origin.k == stored.k && origin.n == stored.n) return "";
  return fmt::format("padded from {} x {} to {} x {}; unpack it first", origin.k.value, origin.n.value,
                     stored.k.value, stored.n.value);
}

/// Blocks of columns stay blocks where none of them is divided; otherwise every column has its scale.
void settle_blocks(ColumnView& view) {
  std::int64_t& block = view.geometry.scheme.columns_per_scale;
  const auto is_divided = [&](const ColumnPiece& piece) {
    return piece.module->stored.geometry.scheme.columns_per_scale != block ||
           (block > 1 && piece.columns.count % block != 0);
  };
  const bool from_one_module = std::ranges::all_of(
      view.pieces, [&](const ColumnPiece& piece) { return piece.module == view.pieces.front().module; });
  if (block == Scheme::kAllColumns ? !from_one_module
                                   : view.pieces.size() > 1 && std::ranges::any_of(view.pieces, is_divided))
    block = 1;
}

// ---- views

class Arranger {
 public:
  Arranger(const PackedCheckpoint& source, const ArrangeOptions& options, Reorderings reorderings)
      : source_{source},
        options_{options},
        reorderings_{std::move(reorderings)},
        heads_{heads_of(source.checkpoint().config())} {}

  LayerUnit unit_of(const UnitModules& modules) const {
    LayerUnit unit{modules.modules, {}};
    for (std::int64_t rank = 0; rank < options_.ranks; ++rank) {
      LayerView view = view_of(modules, rank);
      if (rank > 0) share_columns(view, unit.views.back());
      unit.views.push_back(std::move(view));
    }
    return unit;
  }

 private:
  const Reordered* reordered(const PackedModule& module) const {
    const auto it = reorderings_.find(module.name);
    return it == reorderings_.end() ? nullptr : &it->second;
  }

  /// Before it is divided.
  Geometry geometry_of(const PackedModule& module) const {
    Geometry geometry = module.stored.geometry;
    if (const Reordered* how = reordered(module); how && how->is_rows()) geometry.scheme.act_order = false;
    return geometry;
  }

  LayerView view_of(const UnitModules& unit, std::int64_t rank) const {
    const PackedModule& first = *unit.modules.front();
    LayerView view = whole_view(first);
    view.module = unit.name;
    ColumnView columns{{}, geometry_of(first)};
    columns.geometry.n = N{0};
    LayerPart part{name_of(split_of(first.name)), options_.ranks};
    if (unit.modules.size() > 1) view.why_not = fuse_refusal(unit.modules, source_.checkpoint());
    for (const PackedModule* module : unit.modules) {
      if (view.why_not.empty() && (options_.ranks > 1 || unit.modules.size() > 1))
        view.why_not = padding_refusal(*module, source_);
      const DivisibleLayer layer{module->name, geometry_of(*module), module->experts != 0,
                                 [&] { return g_idx_of(*module, source_.checkpoint()); }};
      const RankPart divided = part_of_rank(layer, heads_, options_.ranks, rank);
      if (view.why_not.empty()) view.why_not = divided.why_not;
      const Reordered* how = reordered(*module);
      const Order order = how && !how->is_rows() ? column_order(*how, *module) : nullptr;
      for (const ColumnRange& range : divided.columns) {
        columns.pieces.push_back({module, range, order});
        columns.geometry.n = N{columns.geometry.n.value + range.count};
        part.of.push_back({module->name, range.first, range.count});
      }
      part.copies = std::min(part.copies, divided.copies);
      view.rows = divided.rows;
      view.geometry = divided.geometry;
      if (how) apply(*how, columns, view);
    }
    settle_blocks(columns);
    view.geometry.n = columns.geometry.n;
    view.geometry.scheme.columns_per_scale = columns.geometry.scheme.columns_per_scale;
    view.has_bias = part.split != name_of(Split::rows) || rank == kBiasRank;
    if (options_.ranks > 1 || options_.fuse) {
      part.first_row = view.rows.first;
      part.rows = view.rows.count;
      view.part = std::move(part);
    }
    view.columns = std::make_shared<ColumnView>(std::move(columns));
    return view;
  }

  void apply(const Reordered& how, ColumnView& columns, LayerView& view) const {
    view.fold = how.fold;
    if (how.is_rows()) {
      columns.row_order = how.order;
      view.notes.emplace_back("rows sorted by group, their order folded into gate and up");
      if (options_.ranks > 1 || options_.fuse) view.fold->g_idx.clear();  // not undone: it is a part
    } else {
      const std::string note =
          fmt::format("columns in the order of {}'s rows", last_component(how.fold.order_of));
      if (view.notes.empty()) view.notes.push_back(note);
    }
  }

  static void share_columns(LayerView& view, const LayerView& other) {
    const auto is_same = [](const ColumnPiece& a, const ColumnPiece& b) {
      return a.module == b.module && a.columns.first == b.columns.first && a.columns.count == b.columns.count;
    };
    if (std::ranges::equal(view.columns->pieces, other.columns->pieces, is_same))
      view.columns = other.columns;
  }

  const PackedCheckpoint& source_;
  const ArrangeOptions& options_;
  Reorderings reorderings_;
  Heads heads_;
};

}  // namespace

Arrangement arrange(const PackedCheckpoint& source, const ArrangeOptions& options) {
  if (options.ranks > 1 && source.rank_of_model())
    throw Error{ErrorKind::unsupported,
                fmt::format("this is rank {} of {} already; --tp divides whole models",
                            source.rank_of_model()->rank, source.rank_of_model()->ranks)};
  Arrangement result;
  const Modules modules = modules_of(source);
  Reorderings reorderings;
  if (options.fold_act_order) {
    reorderings = Folding{source, modules}(result.notes);
    if (reorderings.empty()) result.notes.push_back("--fold-act-order: there was nothing to fold");
  }
  std::vector<UnitModules> units;
  if (options.fuse) {
    units = fuse(source, modules, result.notes);
  } else {
    for (const PackedModule& module : source.modules()) units.push_back({module.name, {&module}});
  }
  const Arranger arranger{source, options, std::move(reorderings)};
  for (const UnitModules& unit : units)
    result.units.push_back(within("module " + unit.name, [&] { return arranger.unit_of(unit); }));
  // A fold that was made before stays one.
  for (LayerUnit& unit : result.units)
    if (const LayerFold* fold = source.fold_of(unit.modules.front()->name);
        fold && unit.views.size() == 1 && !unit.views.front().part) {
      unit.views.front().fold = *fold;
      unit.views.front().notes.push_back(
          fmt::format("still in the order of {}'s rows by group", fold->order_of));
    }
  return result;
}

LayerView view_as_origin(const PackedModule& module, const PackedCheckpoint& source) {
  LayerView view = whole_view(module);
  const LayerFold* own = source.fold_of(module.name);
  if (!own) return view;
  const auto fail = [&](const std::string& what) {
    throw Error{ErrorKind::bad_input, fmt::format("module {}: {}", module.name, what)};
  };
  const LayerFold* rows = source.fold_of(own->order_of);
  if (!rows || rows->g_idx.empty()) {
    fail(fmt::format("the order of {} is not recorded", own->order_of));
    return view;
  }
  const std::int64_t n = module.stored.geometry.n.value, k = module.stored.geometry.k.value;
  const std::int64_t size = std::ssize(rows->g_idx);
  ColumnView columns = *view.columns;
  if (own->order_of == module.name) {
    const auto last = static_cast<std::int32_t>(columns.geometry.scheme.groups(K{k}).value - 1);
    if (size > k || std::ranges::max(rows->g_idx) > last)
      fail(fmt::format("an order of {} rows in {} groups cannot be undone", size,
                       std::ranges::max(rows->g_idx) + 1));
    columns.row_order = inverse_of(order_by_group(rows->g_idx, k));
    columns.g_idx = rows->g_idx;
    columns.g_idx.resize(static_cast<std::size_t>(k), last);  // rows that padding added
    columns.geometry.scheme.act_order = true;
    view.geometry = columns.geometry;
    view.notes.emplace_back("rows in their own order again");
  } else {
    const bool is_doubled = last_component(module.name) == "gate_up_proj";
    if ((is_doubled ? 2 * size : size) > n) fail(fmt::format("an order of {} cannot be undone", size));
    const Order order = inverse_of(order_by_group(rows->g_idx, size));
    columns.pieces.front().column_order = extended(is_doubled ? twice(order, 2 * size) : order, n);
    view.notes.emplace_back("columns in their own order again");
  }
  view.columns = std::make_shared<ColumnView>(std::move(columns));
  return view;
}

LayerView view_of_record(const ManifestLayer& record, const PackedCheckpoint& source) {
  const auto find = [&](const std::string& name) {
    const auto it = std::ranges::lower_bound(source.modules(), name, {}, &PackedModule::name);
    if (it == source.modules().end() || it->name != name)
      throw Error{ErrorKind::mismatch, fmt::format("{}: the source has no such layer", name)};
    return &*it;
  };
  LayerPart part;
  if (record.part) {
    part = *record.part;
  } else {
    const Geometry& whole = find(record.module)->stored.geometry;
    part.of = {{record.module, 0, whole.n.value}};
    part.rows = whole.k.value;
  }
  LayerView view = whole_view(*find(part.of.front().module));
  ColumnView columns{{}, view.columns->geometry};
  columns.geometry.n = N{0};
  const bool is_folded = record.fold && !source.fold_of(part.of.front().module);
  for (const auto& [name, first, count] : part.of) {
    const PackedModule& module = *find(name);
    const Geometry& geometry = module.stored.geometry;
    if (geometry.k != columns.geometry.k || first + count > geometry.n.value ||
        part.first_row + part.rows > geometry.k.value || record.experts != module.experts)
      throw Error{ErrorKind::mismatch, fmt::format("{}: the source's layer has other sizes", name)};
    Order order;
    if (is_folded) {
      const PackedModule& rows = *find(record.fold->order_of);
      order = order_by_group(g_idx_of(rows, source.checkpoint()), rows.stored.geometry.k.value);
      if (rows.name == name) {
        columns.row_order = order;
        columns.geometry.scheme.act_order = false;
        order = nullptr;
      } else if (last_component(name) == "gate_up_proj") {
        order = twice(order, geometry.n.value);
      }
      if (order && std::ssize(*order) != geometry.n.value)
        throw Error{ErrorKind::mismatch, fmt::format("{}: the source's layer has other sizes", name)};
    }
    columns.pieces.push_back({&module, {first, count}, order});
    columns.geometry.n = N{columns.geometry.n.value + count};
  }
  settle_blocks(columns);
  view.module = record.module;
  view.separator = record.separator;
  view.rows = {part.first_row, part.rows};
  view.geometry = columns.geometry;
  view.geometry.k = K{part.rows};
  view.columns = std::make_shared<ColumnView>(std::move(columns));
  return view;
}

}  // namespace mpk
