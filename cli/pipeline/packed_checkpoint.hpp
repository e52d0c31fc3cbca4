#pragma once
// A checkpoint of packed layers as it was found: what each layer is, what its configuration claims, what it
// was before if marlin-pack converted it.

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/pipeline/packed_modules.hpp"
#include "packer/checkpoint_claims.hpp"
#include "packer/manifest.hpp"

namespace mpk {

/// What config.json and the files beside it claim.
CheckpointClaims claims_for(const Checkpoint& checkpoint);

/// The module whose weight this tensor is, if that is a float matrix and no embedding; else nothing.
std::optional<std::string> float_linear(const std::string& tensor, DType dtype, const Shape& shape);

class PackedCheckpoint {
 public:
  /// `zeros`: "v1" or "v2" decides what asymmetric GPTQ zero points mean; with "auto" the data do. Throws
  /// Error{unsupported} that names --zeros if they leave it open, what Checkpoint::open and recognition throw
  /// otherwise.
  static PackedCheckpoint open(const std::filesystem::path& path, const std::string& zeros = "auto");

  const Checkpoint& checkpoint() const { return checkpoint_; }
  const CheckpointClaims& claims() const { return claims_; }
  const std::vector<PackedModule>& modules() const { return modules_; }
  /// What was found out beyond the headers, or against the configuration.
  const std::vector<std::string>& notes() const { return notes_; }

  /// How the checkpoint described itself, or the one it was converted from.
  const CheckpointOrigin& origin() const { return origin_; }
  /// How the module was stored there.
  LayerOrigin origin_of(const PackedModule& module) const;

  /// Layers of this artifact are parts of its source's, or several in one, so that it can not become its
  /// source again; origin() is then the artifact itself.
  bool is_rearranged() const { return rearranged_; }
  /// Which rank of a model this artifact is.
  const std::optional<RankOfModel>& rank_of_model() const { return rank_of_model_; }
  /// nullptr: the order of its rows and columns is the origin's.
  const LayerFold* fold_of(const std::string& module) const;

  /// torch_dtype of config.json: F16, BF16 or F32; BF16 if it says nothing.
  DType model_dtype() const;
  /// Modules whose weight is a float matrix and no embedding: what an "ignore" list names.
  std::vector<std::string> float_linears() const;

 private:
  explicit PackedCheckpoint(Checkpoint checkpoint) : checkpoint_{std::move(checkpoint)} {}
  void find_modules(const std::string& zeros);
  void decide_zeros(const std::string& zeros);
  void read_origin();

  Checkpoint checkpoint_;
  bool from_artifact_ = false;  ///< marlin-pack wrote it: there is a manifest
  CheckpointClaims claims_;
  std::vector<PackedModule> modules_;
  std::vector<std::string> notes_;
  CheckpointOrigin origin_;
  std::map<std::string, LayerOrigin> layer_origins_;  ///< of an artifact's modules, from its manifest
  std::map<std::string, LayerFold> folds_;            ///< likewise
  std::optional<RankOfModel> rank_of_model_;
  bool rearranged_ = false;
};

}  // namespace mpk
