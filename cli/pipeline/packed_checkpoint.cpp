#include "cli/pipeline/packed_checkpoint.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "packer/evidence.hpp"
#include "packer/format/error.hpp"
#include "packer/io/json_file.hpp"

namespace mpk {
namespace fs = std::filesystem;
namespace {

/// Original tensors up to this size go into the manifest, so that they come back to the bit whatever the
/// artifact's own form of them is: global scales, scales of a whole tensor, weight_shape.
constexpr std::size_t kKeptBytes = 64;

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Some columns, enough for the statistics of evidence.hpp.
ColumnRange sample_of(const PackedModule& module) {
  return {0, std::min<std::int64_t>(256, module.stored.geometry.n.value)};
}

bool is_float(DType dtype) {
  return dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16;
}

}  // namespace

std::optional<std::string> float_linear(const std::string& tensor, DType dtype, const Shape& shape) {
  constexpr std::string_view kWeight = ".weight";
  if (!tensor.ends_with(kWeight) || shape.size() != 2 || !is_float(dtype)) return std::nullopt;
  std::string module = tensor.substr(0, tensor.size() - kWeight.size());
  if (module.find("embed") != std::string::npos || module.ends_with("wte") || module.ends_with("wpe"))
    return std::nullopt;
  return module;
}

PackedCheckpoint PackedCheckpoint::open(const fs::path& path, const std::string& zeros) {
  PackedCheckpoint packed{Checkpoint::open(path)};
  packed.from_artifact_ = fs::exists(packed.checkpoint_.directory() / kManifestName);
  packed.claims_ = claims_for(packed.checkpoint_);
  packed.find_modules(zeros);
  packed.read_origin();
  return packed;
}

CheckpointClaims claims_for(const Checkpoint& checkpoint) {
  std::vector<ConfigFile> files;
  if (!checkpoint.config().is_null()) files.push_back({"config.json", checkpoint.config()});
  for (const char* name : kSideConfigNames)
    if (const fs::path path = checkpoint.directory() / name; fs::exists(path))
      files.push_back({name, read_json_file(path)});
  return CheckpointClaims::from(files);
}

void PackedCheckpoint::find_modules(const std::string& zeros) {
  const auto claims = [&](const std::string& module) { return claims_.of(module); };
  modules_ = find_packed_modules(checkpoint_, claims);
  decide_zeros(zeros);
}

/// Asymmetric zero points of GPTQ read equally well as either version; a file's flag is known to be wrong at
/// times, so the codes are asked. What marlin-pack wrote itself is recorded in its manifest.
void PackedCheckpoint::decide_zeros(const std::string& zeros) {
  std::map<int, std::vector<PackedModule*>> open_ones;
  NibbleOrderEvidence nibbles;
  bool any_awq = false;
  for (PackedModule& module : modules_) {
    const std::string_view format = module.stored.format->name;
    const Scheme& scheme = module.stored.geometry.scheme;
    if (scheme.zero_points != ZeroPoints::integer) continue;
    if (format == "gptq" || format == "gptq-v2") open_ones[scheme.type.bits].push_back(&module);
    if (format == "awq") {
      any_awq = true;
      nibbles.add(read_columns(module.stored, module.parts(checkpoint_), sample_of(module)));
    }
  }
  if (any_awq && !from_artifact_) {
    const NibbleOrderVerdict verdict = nibbles.verdict();
    if (verdict.order == NibbleOrder::natural_weights || verdict.order == NibbleOrder::natural_zeros)
      throw Error{
          ErrorKind::unsupported,
          "the nibbles of AWQ's qweight and qzeros are in different orders: " + verdict.explanation()};
  }
  for (auto& [bits, modules] : open_ones) {
    const WeightFormat* row = zeros == "v1"   ? weight_format_named("gptq")
                              : zeros == "v2" ? weight_format_named("gptq-v2")
                                              : nullptr;
    if (!row && from_artifact_) continue;
    if (!row) {
      GptqVersionEvidence evidence{bits};
      for (const PackedModule* module : modules)
        evidence.add(read_columns(module->stored, module->parts(checkpoint_), sample_of(*module)),
                     module->stored.format->lowest_zero);
      const GptqVersionVerdict verdict = evidence.verdict();
      if (verdict.version == GptqVersion::undecided)
        throw Error{
            ErrorKind::unsupported,
            fmt::format(
                "the data do not tell whether {}-bit zero points are stored as in GPTQ version 1 or 2 "
                "({}); say so by --zeros v1 or --zeros v2",
                bits, verdict.explanation())};
      row = weight_format_named(verdict.version == GptqVersion::v1 ? "gptq" : "gptq-v2");
      if (row != modules.front()->stored.format)
        notes_.push_back(fmt::format("{}-bit zero points: {}; the configuration says otherwise", bits,
                                     verdict.explanation()));
    }
    for (PackedModule* module : modules) module->stored.format = row;
  }
}

LayerOrigin PackedCheckpoint::origin_of(const PackedModule& module) const {
  if (const auto it = layer_origins_.find(module.name); it != layer_origins_.end()) return it->second;
  const auto& [scheme, k, n] = module.stored.geometry;
  LayerOrigin origin{module.stored.format->name, scheme, k, n, {}};
  for (const auto& [suffix, view] : module.parts(checkpoint_)) {
    origin.parts.push_back({suffix, view.dtype, view.shape});
    if (module.experts == 0 && view.data.size() <= kKeptBytes)
      origin.kept[suffix] = {view.dtype, view.shape, {view.data.begin(), view.data.end()}};
  }
  for (const std::string& suffix : module.companions) {
    const TensorView view = checkpoint_.tensor(module.tensor_name(suffix));
    if (suffix != "bias" && view.data.size() <= kKeptBytes)
      origin.kept[suffix] = {view.dtype, view.shape, {view.data.begin(), view.data.end()}};
  }
  return origin;
}

const LayerFold* PackedCheckpoint::fold_of(const std::string& module) const {
  const auto found = folds_.find(module);
  return found == folds_.end() ? nullptr : &found->second;
}

void PackedCheckpoint::read_origin() {
  if (from_artifact_) {
    Manifest manifest = read_manifest(checkpoint_.directory());
    rank_of_model_ = manifest.tensor_parallel;
    rearranged_ = std::ranges::any_of(manifest.layers,
                                      [](const ManifestLayer& layer) { return layer.part.has_value(); });
    if (manifest.origin && !rearranged_) {
      for (ManifestLayer& layer : manifest.layers)
        if (layer.fold) folds_.emplace(layer.module, std::move(*layer.fold));
      origin_ = std::move(*manifest.origin);
      for (ManifestLayer& layer : manifest.layers)
        if (layer.origin) layer_origins_.emplace(layer.module, std::move(*layer.origin));
      return;
    }
  }
  if (!modules_.empty()) origin_.family = modules_.front().stored.format->family;
  for (const char* name : kSideConfigNames)
    if (const fs::path path = checkpoint_.directory() / name; fs::exists(path))
      origin_.files[name] = text_of(path);
  const fs::path config = checkpoint_.directory() / "config.json";
  if (!fs::exists(config)) return;
  std::ifstream in(config, std::ios::binary);
  const auto json = nlohmann::ordered_json::parse(in);  // keeps the order of the keys
  if (json.contains("quantization_config")) origin_.quantization_config = json["quantization_config"];
}

DType PackedCheckpoint::model_dtype() const {
  const auto& config = checkpoint_.config();
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (!config.is_object() || !config.contains(key) || !config[key].is_string()) continue;
    const std::string name = config[key];
    if (name == "float16") return DType::F16;
    if (name == "bfloat16") return DType::BF16;
    if (name == "float32") return DType::F32;
  }
  return DType::BF16;
}

std::vector<std::string> PackedCheckpoint::float_linears() const {
  std::vector<std::string> modules;
  for (const std::string& name : checkpoint_.names()) {
    const TensorView tensor = checkpoint_.tensor(name);
    if (auto module = float_linear(name, tensor.dtype, tensor.shape)) modules.push_back(*std::move(module));
  }
  return modules;
}

}  // namespace mpk
