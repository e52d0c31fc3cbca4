#include "cli/pipeline/open_model.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "cli/pipeline/float_matrix.hpp"
#include "model/linear_specs.hpp"
#include "packer/format/error.hpp"
#include "packer/weight_format.hpp"

namespace mpk {
namespace {

[[noreturn]] void refuse_unknown(const Checkpoint& checkpoint, const std::string& name) {
  const std::string prefix = name.substr(0, name.rfind('.') + 1);
  std::string suffixes;
  for (const std::string& other : checkpoint.names())
    if (!prefix.empty() && other.starts_with(prefix) && other.find('.', prefix.size()) == std::string::npos)
      suffixes += (suffixes.empty() ? "" : ", ") + other.substr(prefix.size());
  if (suffixes.empty()) throw Error{ErrorKind::bad_input, fmt::format("there is no tensor {}", name)};
  throw Error{
      ErrorKind::unsupported,
      fmt::format("there is no tensor {}; the module's tensors ({}) are none of the formats read here, "
                  "which marlin-pack formats lists",
                  name, suffixes)};
}

}  // namespace

CheckpointWeights::CheckpointWeights(PackedCheckpoint packed) : packed_{std::move(packed)} {
  for (const PackedModule& module : packed_.modules())
    if (module.experts == 0) modules_.emplace(module.name + ".weight", &module);
}

bool CheckpointWeights::contains(const std::string& name) const {
  return modules_.contains(name) || packed_.checkpoint().contains(name);
}

MatrixF CheckpointWeights::load(const std::string& name) const {
  const Checkpoint& checkpoint = packed_.checkpoint();
  if (const auto it = modules_.find(name); it != modules_.end())
    return within("module " + it->second->name, [&] {
      const PackedModule& module = *it->second;
      return dequantize(
          read_columns(module.stored, module.parts(checkpoint), {0, module.stored.geometry.n.value}));
    });
  if (!checkpoint.contains(name)) refuse_unknown(checkpoint, name);
  const TensorView tensor = checkpoint.tensor(name);
  return within(checkpoint.where(name), [&] { return float_matrix(tensor); });
}

OpenModel open_model(const std::filesystem::path& path) {
  PackedCheckpoint packed = PackedCheckpoint::open(path);
  Checkpoint checkpoint = packed.checkpoint();
  if (checkpoint.config().is_null())
    throw Error{ErrorKind::bad_input, fmt::format("{}: no config.json, so nothing says how to run the model",
                                                  checkpoint.directory().string())};
  DecoderConfig config = within("file " + (checkpoint.directory() / "config.json").string(),
                                [&] { return parse_config(checkpoint.config()); });
  auto weights = std::make_unique<CheckpointWeights>(std::move(packed));
  locate_tensors(config, *weights);
  return {checkpoint, std::move(config), std::move(weights)};
}

OpenModel open_float_model(const std::filesystem::path& path) {
  OpenModel model = open_model(path);
  if (model.checkpoint.config().contains("quantization_config"))
    throw Error{ErrorKind::unsupported,
                fmt::format("{}: already quantized (its config.json has a quantization_config); "
                            "quantizing starts from floating point",
                            path.string())};
  return model;
}

}  // namespace mpk
