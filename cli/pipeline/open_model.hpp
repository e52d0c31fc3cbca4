#pragma once
// A checkpoint that a decoder can run, whether its linear layers are floats or packed.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "model/decoder.hpp"
#include "packer/io/checkpoint.hpp"
#include "packer/parts.hpp"

namespace mpk {

/// The tensors "MODULE.suffix" of one module (its bias included), by suffix.
PartViews parts_of(const Checkpoint& checkpoint, const std::string& module);

/// Weights from a checkpoint whose linear layers may be stored in any of weight_formats(); those are decoded
/// from their packed bytes, everything else is read as floats.
class CheckpointWeights final : public WeightSource {
 public:
  explicit CheckpointWeights(Checkpoint checkpoint) : checkpoint_{std::move(checkpoint)} {}
  bool contains(const std::string& name) const override;
  MatrixF load(const std::string& name) const override;

 private:
  Checkpoint checkpoint_;
};

struct OpenModel {
  Checkpoint checkpoint;
  DecoderConfig config;
  std::unique_ptr<WeightSource> weights;
};
OpenModel open_model(const std::filesystem::path& path);

}  // namespace mpk
