#pragma once
// Which layers an artifact has, made of which of the source's: as they are, fused, divided among ranks, with
// the order of act-order rows folded into the layers before, or that undone.

#include <cstdint>
#include <string>
#include <vector>

#include "cli/pipeline/layer_view.hpp"
#include "cli/pipeline/packed_checkpoint.hpp"

namespace mpk {

struct ArrangeOptions {
  std::int64_t ranks = 1;  ///< of tensor parallelism
  /// q_proj, k_proj and v_proj become one qkv_proj, gate_proj and up_proj one gate_up_proj.
  bool fuse = false;
  /// Rows of down_proj that were quantized by activation order are sorted by group, and the columns of
  /// gate_proj and up_proj with them: what lies between acts on each element alone.
  bool fold_act_order = false;

  bool rearranges() const { return ranks > 1 || fuse || fold_act_order; }
};

/// Modules that are converted together.
struct LayerUnit {
  std::vector<const PackedModule*> modules;
  std::vector<LayerView> views;  ///< one per rank
};

struct Arrangement {
  std::vector<LayerUnit> units;    ///< every module of the source is in one
  std::vector<std::string> notes;  ///< what was asked for and not done, and why
};

/// Layers that cannot be are there, with a reason. Throws Error{unsupported} for parts of a model that was
/// divided before.
Arrangement arrange(const PackedCheckpoint& source, const ArrangeOptions& options);

/// A layer of an artifact in its origin's order: a fold is undone.
LayerView view_as_origin(const PackedModule& module, const PackedCheckpoint& source);

/// The layer that `record` of an artifact's manifest describes, made of the source's modules. Throws
/// Error{mismatch} if they have no such rows and columns.
LayerView view_of_record(const ManifestLayer& record, const PackedCheckpoint& source);

}  // namespace mpk
