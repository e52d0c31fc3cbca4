#include "cli/pipeline/open_model.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "cli/pipeline/float_matrix.hpp"
#include "packer/format/error.hpp"
#include "packer/weight_format.hpp"

namespace mpk {
namespace {

/// "MODULE" of "MODULE.weight"; empty for any other name.
std::string module_of_weight(const std::string& name) {
  constexpr std::string_view kSuffix = ".weight";
  return name.ends_with(kSuffix) ? name.substr(0, name.size() - kSuffix.size()) : std::string{};
}

[[noreturn]] void refuse_unknown(const std::string& name, const PartViews& parts) {
  if (parts.empty()) throw Error{ErrorKind::bad_input, fmt::format("there is no tensor {}", name)};
  std::string suffixes, formats;
  for (const auto& [suffix, part] : parts) suffixes += (suffixes.empty() ? "" : ", ") + suffix;
  for (const WeightFormat& format : weight_formats())
    formats += (formats.empty() ? "" : ", ") + std::string{format.name};
  throw Error{
      ErrorKind::unsupported,
      fmt::format("there is no tensor {}; the module's tensors ({}) are none of the formats read here: {}",
                  name, suffixes, formats)};
}

}  // namespace

PartViews parts_of(const Checkpoint& checkpoint, const std::string& module) {
  PartViews parts;
  const std::string prefix = module + ".";
  const auto& names = checkpoint.names();
  for (auto it = std::ranges::lower_bound(names, prefix); it != names.end() && it->starts_with(prefix); ++it)
    if (const std::string suffix = it->substr(prefix.size()); suffix.find('.') == std::string::npos)
      parts.emplace(suffix, checkpoint.tensor(*it));
  return parts;
}

bool CheckpointWeights::contains(const std::string& name) const {
  if (checkpoint_.contains(name)) return true;
  const std::string module = module_of_weight(name);
  return !module.empty() && recognize(parts_of(checkpoint_, module)).has_value();
}

MatrixF CheckpointWeights::load(const std::string& name) const {
  const std::string module = module_of_weight(name);
  if (!checkpoint_.contains(name) && !module.empty()) {
    return within("module " + module, [&] {
      PartViews parts = parts_of(checkpoint_, module);
      parts.erase("bias");
      const auto stored = recognize(parts);
      if (!stored) refuse_unknown(name, parts);
      const auto& [scheme, k, n] = stored->geometry;
      return dequantize(stored->format->decode(parts, scheme, k, n));
    });
  }
  const TensorView tensor = checkpoint_.tensor(name);
  return within(checkpoint_.where(name), [&] { return float_matrix(tensor); });
}

OpenModel open_model(const std::filesystem::path& path) {
  Checkpoint checkpoint = Checkpoint::open(path);
  if (checkpoint.config().is_null())
    throw Error{ErrorKind::bad_input, fmt::format("{}: no config.json, so nothing says how to run the model",
                                                  checkpoint.directory().string())};
  DecoderConfig config = within("file " + (checkpoint.directory() / "config.json").string(),
                                [&] { return parse_config(checkpoint.config()); });
  return {checkpoint, std::move(config), std::make_unique<CheckpointWeights>(checkpoint)};
}

}  // namespace mpk
