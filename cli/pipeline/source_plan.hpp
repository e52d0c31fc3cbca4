#pragma once
// What will become of every tensor of a source checkpoint.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cli/pipeline/recipe.hpp"
#include "packer/io/checkpoint.hpp"
#include "packer/manifest.hpp"

namespace mpk {

/// A linear layer that gets quantized.
struct PlannedLayer {
  std::string module;
  Scheme scheme;
  K k;
  N n;
};

struct SourcePlan {
  std::vector<SourceTensor> tensors;  ///< every tensor of the source, sorted by name, sha256 still empty
  std::map<std::string, PlannedLayer> layers;  ///< by module
  std::vector<std::string> kept;               ///< modules that the recipe leaves in floating point
};

/// `modules`: the decoder's linear layers. Throws Error{bad_input} if one of their weights is missing or no
/// matrix, Error{usage} if a pattern of the recipe matches no module at all.
SourcePlan plan_source(const Checkpoint& source, const std::vector<std::string>& modules,
                       const Recipe& recipe, bool tied_embeddings);

}  // namespace mpk
