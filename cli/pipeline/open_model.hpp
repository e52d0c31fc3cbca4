#pragma once
// A checkpoint that a decoder can run, whether its linear layers are floats or packed.

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "cli/pipeline/packed_checkpoint.hpp"
#include "model/decoder.hpp"

namespace mpk {

/// Weights from a checkpoint whose linear layers may be stored in any format that is read here; those are
/// decoded from their packed bytes, everything else is read as floats.
class CheckpointWeights final : public WeightSource {
 public:
  explicit CheckpointWeights(PackedCheckpoint packed);
  bool contains(const std::string& name) const override;
  MatrixF load(const std::string& name) const override;

 private:
  PackedCheckpoint packed_;
  std::map<std::string, const PackedModule*> modules_;  ///< by the name their float weight would have
};

struct OpenModel {
  Checkpoint checkpoint;
  DecoderConfig config;
  std::unique_ptr<WeightSource> weights;
};
OpenModel open_model(const std::filesystem::path& path);
/// Throws Error{unsupported} for a quantized one.
OpenModel open_float_model(const std::filesystem::path& path);

}  // namespace mpk
