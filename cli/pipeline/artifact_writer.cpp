#include "cli/pipeline/artifact_writer.hpp"

#include <algorithm>
#include <fstream>

#include <fmt/format.h>

#include "cli/version.hpp"
#include "packer/format/error.hpp"
#include "packer/io/output_file.hpp"
#include "packer/io/sha256.hpp"

namespace mpk {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfigName = "config.json";

/// Tensors in the source's name order, a quantized weight replaced by the parts that store it: neighbours
/// stay neighbours, so a layer's tensors share a shard as they did.
std::vector<TensorSpec> output_specs(const WeightFormat& format, const SourcePlan& plan) {
  std::vector<TensorSpec> specs;
  for (const SourceTensor& tensor : plan.tensors) {
    if (tensor.fate == Fate::copied) specs.push_back({tensor.name, tensor.dtype, tensor.shape});
    if (tensor.fate != Fate::quantized) continue;
    const std::string module = tensor.name.substr(0, tensor.name.rfind('.'));
    const PlannedLayer& layer = plan.layers.at(module);
    for (const PartSpec& part : format.specs(layer.scheme, layer.k, layer.n))
      specs.push_back({module + "." + part.suffix, part.dtype, part.shape});
  }
  return specs;
}

}  // namespace

ArtifactWriter::ArtifactWriter(fs::path directory, const WeightFormat& format, const Checkpoint& source,
                               const SourcePlan& plan, std::uint64_t max_shard_bytes)
    : directory_{std::move(directory)},
      format_{format},
      source_{source},
      plan_{plan},
      specs_{output_specs(format, plan)},
      writer_{directory_, specs_, max_shard_bytes} {}

void ArtifactWriter::write_layer(ManifestLayer record, const QuantizedMatrix& matrix) {
  record.layout = format_.name;
  for (const Part& part : within("format " + record.layout, [&] { return format_.encode(matrix); }))
    writer_.write(record.module + "." + part.suffix, part.tensor.view());
  layers_.push_back(std::move(record));
}

void ArtifactWriter::copy_tensor(const std::string& name) {
  writer_.write(name, source_.tensor(name));
}

std::uint64_t ArtifactWriter::tensor_bytes() const {
  std::uint64_t bits = 0;
  for (const TensorSpec& spec : specs_) {
    std::uint64_t elements = 1;
    for (const std::int64_t extent : spec.shape) elements *= static_cast<std::uint64_t>(extent);
    bits += elements * static_cast<std::uint64_t>(info(spec.dtype).bits);
  }
  return bits / 8;
}

void ArtifactWriter::write_config(const Recipe& recipe) const {
  CheckpointSchemes schemes{recipe.scheme, {}, {plan_.kept.begin(), plan_.kept.end()}};
  for (const auto& [module, layer] : plan_.layers)
    if (layer.scheme != recipe.scheme) schemes.exceptions.emplace(module, layer.scheme);
  std::ifstream in(source_.directory() / kConfigName, std::ios::binary);
  auto config =
      nlohmann::ordered_json::parse(in);  // keeps the order of the keys; opening has validated the text
  config["quantization_config"] = format_.quantization_config(schemes);
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

void ArtifactWriter::finish(const Recipe& recipe, nlohmann::ordered_json recipe_json,
                            std::vector<std::int32_t> sample_tokens, std::vector<SourceTensor> source) {
  writer_.finish();
  for (const std::string& name : source_.side_files())
    if (name != kConfigName) {
      std::error_code error;
      fs::copy_file(source_.directory() / name, directory_ / name, error);
      if (error)
        throw Error{ErrorKind::device, fmt::format("{}: cannot be copied: {}", name, error.message())};
    }
  write_config(recipe);

  Manifest manifest{kVersion, format_.name, std::move(recipe_json), std::move(sample_tokens),
                    layers_,  {},           std::move(source),      hash_files()};
  for (const TensorSpec& spec : specs_)
    manifest.tensors.push_back(
        {spec.name, writer_.shard_of(spec.name), spec.dtype, spec.shape, writer_.sha256(spec.name)});
  write_new_file(directory_ / kManifestName, serialize(manifest));
}

}  // namespace mpk
