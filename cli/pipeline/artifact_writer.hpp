#pragma once
// One artifact being written: tensors in one weight format, the files beside them, the manifest.

#include <filesystem>
#include <string>

#include "cli/pipeline/source_plan.hpp"
#include "packer/io/checkpoint_writer.hpp"
#include "packer/manifest.hpp"
#include "packer/weight_format.hpp"

namespace mpk {

class ArtifactWriter {
 public:
  /// Creates the files in `directory` (which must exist) with their final sizes. Everything but the data is
  /// known by now.
  ArtifactWriter(std::filesystem::path directory, const WeightFormat& format, const Checkpoint& source,
                 const SourcePlan& plan, std::uint64_t max_shard_bytes);

  /// Encodes and writes one layer. `record` comes without its layout.
  void write_layer(ManifestLayer record, const QuantizedMatrix& matrix);
  void copy_tensor(const std::string& name);
  /// Copies the side files, writes config.json with its quantization_config, and the manifest. `source`
  /// carries the hashes.
  void finish(const Recipe& recipe, nlohmann::ordered_json recipe_json,
              std::vector<std::int32_t> sample_tokens, std::vector<SourceTensor> source);

  const WeightFormat& format() const { return format_; }
  const std::filesystem::path& directory() const { return directory_; }
  std::uint64_t tensor_bytes() const;
  std::int64_t num_shards() const { return static_cast<std::int64_t>(writer_.shards().size()); }
  const std::vector<ManifestLayer>& layers() const { return layers_; }

 private:
  void write_config(const Recipe& recipe) const;
  std::vector<ManifestFile> hash_files() const;

  std::filesystem::path directory_;
  const WeightFormat& format_;
  Checkpoint source_;
  const SourcePlan& plan_;
  std::vector<TensorSpec> specs_;
  CheckpointWriter writer_;
  std::vector<ManifestLayer> layers_;
};

}  // namespace mpk
