#pragma once
// Which files of a directory make up a checkpoint.

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mpk {

inline constexpr const char* kSingleFileName = "model.safetensors";
inline constexpr const char* kIndexFileName = "model.safetensors.index.json";

struct CheckpointFiles {
  std::filesystem::path directory;
  std::vector<std::string> shards;                               ///< sorted file names in `directory`
  std::optional<std::map<std::string, std::string>> weight_map;  ///< tensor to shard, where there is an index
};

/// `path` is a .safetensors file or a directory. In a directory an index decides; without one it is
/// model.safetensors; without that all *.safetensors files together. Opens no shard. Other *.safetensors
/// files (consolidated.safetensors, adapters) are no part of it, but a shard that the rest does not account
/// for is an error. Throws Error{bad_input}.
CheckpointFiles find_checkpoint_files(const std::filesystem::path& path);

/// directory / name, if that is a file which may be read as part of the checkpoint: a symbolic link must stay
/// in the directory, or lead to the blobs of the Hugging Face cache that the directory is a snapshot of.
/// Throws Error{bad_input}.
std::filesystem::path file_inside(const std::filesystem::path& directory, const std::string& name);

/// Names of the entries of a directory, sorted, hidden ones left out.
std::vector<std::string> visible_entries(const std::filesystem::path& directory);

}  // namespace mpk
