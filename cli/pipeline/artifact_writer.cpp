#include "cli/pipeline/artifact_writer.hpp"

#include <algorithm>
#include <fstream>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/output_file.hpp"
#include "packer/io/safetensors.hpp"
#include "packer/io/sha256.hpp"

namespace mpk {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfigName = "config.json";

}  // namespace

ArtifactWriter::ArtifactWriter(fs::path directory, std::vector<TensorSpec> specs,
                               std::uint64_t max_shard_bytes, CheckpointWriter::Begin begin)
    : directory_{std::move(directory)},
      specs_{std::move(specs)},
      writer_{directory_, specs_, max_shard_bytes, begin} {
  if (begin == CheckpointWriter::Begin::where_it_was) remove_other_files();
}

void ArtifactWriter::remove_other_files() const {
  std::vector<fs::path> others;
  for (const auto& entry : fs::directory_iterator(directory_))
    if (std::ranges::find(writer_.shards(), entry.path().filename().string()) == writer_.shards().end())
      others.push_back(entry.path());
  for (const fs::path& path : others) fs::remove_all(path);
}

std::uint64_t ArtifactWriter::tensor_bytes() const {
  std::uint64_t bytes = 0;
  for (const TensorSpec& spec : specs_) bytes += mpk::tensor_bytes(spec.dtype, spec.shape);
  return bytes;
}

void ArtifactWriter::write_side_files(const Checkpoint& source, const SideFiles& side) const {
  for (const std::string& name : source.side_files()) {
    if (name == kConfigName || side.left_out.contains(name) || side.written.contains(name)) continue;
    std::error_code error;
    fs::copy_file(source.directory() / name, directory_ / name, error);
    if (error) throw Error{ErrorKind::device, fmt::format("{}: cannot be copied: {}", name, error.message())};
  }
  for (const auto& [name, content] : side.written) write_new_file(directory_ / name, content);
  if (source.config().is_null()) return;
  std::ifstream in(source.directory() / kConfigName, std::ios::binary);
  // Keeps the order of the keys; opening has validated the text.
  auto config = nlohmann::ordered_json::parse(in);
  if (side.quantization_config.is_null()) {
    config.erase("quantization_config");
  } else {
    config["quantization_config"] = side.quantization_config;
  }
  write_new_file(directory_ / kConfigName, config.dump(2) + "\n");
}

std::vector<ManifestFile> ArtifactWriter::hash_files() const {
  std::vector<ManifestFile> files;
  for (const auto& entry : fs::directory_iterator(directory_)) {
    const std::string name = entry.path().filename().string();
    const bool shard = std::ranges::find(writer_.shards(), name) != writer_.shards().end();
    files.push_back(
        {name, entry.file_size(), shard ? writer_.header_sha256(name) : sha256_of_file(entry.path()), shard});
  }
  std::ranges::sort(files, {}, &ManifestFile::name);
  return files;
}

void ArtifactWriter::finish(const Checkpoint& source, const SideFiles& side, Manifest manifest) {
  writer_.finish();
  write_side_files(source, side);
  manifest.files = hash_files();
  for (const TensorSpec& spec : specs_)
    manifest.tensors.push_back(
        {spec.name, writer_.shard_of(spec.name), spec.dtype, spec.shape, writer_.sha256(spec.name)});
  write_new_file(directory_ / kManifestName, serialize(manifest));
}

void add_specs(std::vector<TensorSpec>& specs, const ManifestLayer& layer, std::span<const PartSpec> parts) {
  for (const PartSpec& part : parts) {
    Shape shape = part.shape;
    if (layer.experts != 0) shape.insert(shape.begin(), layer.experts);
    specs.push_back({layer.tensor_name(part.suffix), part.dtype, std::move(shape)});
  }
}

}  // namespace mpk
