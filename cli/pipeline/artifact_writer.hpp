#pragma once
// One artifact being written: tensors, the files beside them, the manifest.

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "packer/io/checkpoint.hpp"
#include "packer/io/checkpoint_writer.hpp"
#include "packer/manifest.hpp"
#include "packer/weight_format.hpp"

namespace mpk {

/// What stands beside the tensors.
struct SideFiles {
  nlohmann::ordered_json quantization_config;  ///< goes into config.json, or comes out of it if this is null
  std::map<std::string, std::string> written;  ///< name -> content, instead of what the source has
  std::set<std::string> left_out;              ///< the source's files that would be wrong here
};

class ArtifactWriter {
 public:
  /// Creates the tensor files in `directory` (which must exist) with their final sizes; or goes on with those
  /// that are there, and removes what finish() will write.
  ArtifactWriter(std::filesystem::path directory, std::vector<TensorSpec> specs,
                 std::uint64_t max_shard_bytes,
                 CheckpointWriter::Begin begin = CheckpointWriter::Begin::anew);

  /// Each tensor once, from any thread.
  void write(const std::string& name, const TensorView& tensor) { writer_.write(name, tensor); }
  /// As CheckpointWriter's.
  void adopt(const std::string& name, const std::string& sha256) { writer_.adopt(name, sha256); }
  void flush() const { writer_.flush(); }
  TensorView read(const std::string& name) const { return writer_.read(name); }
  /// Copies the source's side files, writes config.json and the manifest, whose tensors and files are filled
  /// in here.
  void finish(const Checkpoint& source, const SideFiles& side, Manifest manifest);

  /// Of a tensor that has been written.
  std::string sha256(const std::string& name) const { return writer_.sha256(name); }
  const std::filesystem::path& directory() const { return directory_; }
  std::uint64_t tensor_bytes() const;
  std::int64_t num_shards() const { return static_cast<std::int64_t>(writer_.shards().size()); }

 private:
  void remove_other_files() const;
  void write_side_files(const Checkpoint& source, const SideFiles& side) const;
  std::vector<ManifestFile> hash_files() const;

  std::filesystem::path directory_;
  std::vector<TensorSpec> specs_;
  CheckpointWriter writer_;
};

/// The specs of a module's parts under the names they get in a checkpoint.
void add_specs(std::vector<TensorSpec>& specs, const ManifestLayer& layer, std::span<const PartSpec> parts);

}  // namespace mpk
