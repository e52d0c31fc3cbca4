#pragma once
// Which tensors of a checkpoint belong together as a packed linear layer, in whatever format it came.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "packer/io/checkpoint.hpp"
#include "packer/parts.hpp"
#include "packer/weight_format.hpp"

namespace mpk {

struct PackedModule {
  std::string name;             ///< "model.layers.0.mlp.down_proj"
  std::string separator = ".";  ///< its tensors are name + separator + suffix
  std::int64_t experts = 0;  ///< each part begins with this dimension, one matrix per expert; 0: it does not
  StoredMatrix stored = {};  ///< of one expert
  std::vector<std::string> suffixes;    ///< of the parts, sorted
  std::vector<std::string> companions;  ///< other tensors of the module: bias, input_scale

  std::string tensor_name(const std::string& suffix) const { return name + separator + suffix; }
  /// The parts of one expert, or of the whole (expert 0) where there are none.
  PartViews parts(const Checkpoint& checkpoint, std::int64_t expert = 0) const;
  std::int64_t num_matrices() const { return experts == 0 ? 1 : experts; }
};

/// One element of the leading dimension.
TensorView slice(const TensorView& stacked, std::int64_t index);

using ClaimsOf = std::function<Claims(const std::string& module)>;

/// Modules that have more than one tensor or other things than a float weight, not yet recognized.
std::vector<PackedModule> group_modules(const Checkpoint& checkpoint);
/// Fills in `stored`; false if the tensors are no format's. Errors name the module.
bool recognize_module(PackedModule& module, const Checkpoint& checkpoint, const Claims& claims);

/// All packed layers, in the order of their names. Errors name the module. Tensors that belong to none of
/// them are plain.
std::vector<PackedModule> find_packed_modules(const Checkpoint& checkpoint, const ClaimsOf& claims);

}  // namespace mpk
