#include <filesystem>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "cli/commands.hpp"
#include "cli/pipeline/packed_checkpoint.hpp"
#include "cli/terminal.hpp"
#include "packer/format/error.hpp"
#include "packer/manifest.hpp"

namespace mpk {
namespace {

/// What a tensor is part of: a packed linear layer or nothing but itself.
struct Row {
  std::string name, dtype, shape, file, note;
  std::uint64_t bytes = 0;
};

std::string describe(const PackedModule& module) {
  const auto& [scheme, k, n] = module.stored.geometry;
  return fmt::format("{}: {}, K={} N={}{}", module.stored.format->name, to_string(scheme), k.value, n.value,
                     module.experts != 0 ? fmt::format(", {} experts", module.experts) : "");
}

/// Tensor -> what its module stores, in whatever format; damaged modules say what is wrong.
std::map<std::string, std::string> notes_for(const Checkpoint& checkpoint, const CheckpointClaims& claims) {
  std::map<std::string, std::string> notes;
  for (PackedModule& module : group_modules(checkpoint)) {
    std::string note;
    try {
      if (recognize_module(module, checkpoint, claims.of(module.name))) note = describe(module);
    } catch (const Error& error) {
      note = fmt::format("damaged: {}", error.what());
    }
    for (const std::string& suffix : module.suffixes) notes[module.tensor_name(suffix)] = note;
    if (!note.empty())
      for (const std::string& suffix : module.companions) notes[module.tensor_name(suffix)] = note;
  }
  return notes;
}

std::vector<Row> rows_of(const Checkpoint& checkpoint, const CheckpointClaims& claims) {
  std::vector<Row> rows;
  const auto notes = notes_for(checkpoint, claims);
  for (const std::string& name : checkpoint.names()) {
    const TensorView tensor = checkpoint.tensor(name);
    const auto note = notes.find(name);
    rows.push_back({name, info(tensor.dtype).name, to_string(tensor.shape), checkpoint.shard_of(name),
                    note == notes.end() ? std::string{} : note->second, tensor.data.size()});
  }
  return rows;
}

/// What was done to the layers of an artifact besides their format; "": nothing, or no artifact.
std::string arrangement_of(const Checkpoint& checkpoint) {
  if (!std::filesystem::exists(checkpoint.directory() / kManifestName)) return "";
  try {
    const Manifest manifest = read_manifest(checkpoint.directory());
    std::string text;
    const auto add = [&](const std::string& what) { text += (text.empty() ? "" : "; ") + what; };
    if (const auto& parallel = manifest.tensor_parallel)
      add(fmt::format("rank {} of {}", parallel->rank, parallel->ranks));
    std::int64_t fused = 0, folded = 0;
    for (const ManifestLayer& layer : manifest.layers) {
      if (layer.part && layer.part->of.front().module != layer.module) ++fused;
      if (layer.fold && layer.fold->order_of == layer.module) ++folded;
    }
    if (fused > 0) add(fmt::format("{} layers made of several", fused));
    if (folded > 0) add(fmt::format("the row order of {} layers folded into those before", folded));
    return text;
  } catch (const Error& error) {
    return fmt::format("manifest damaged: {}", error.what());
  }
}

struct InspectOptions {
  std::string path, json;
};

void run(const InspectOptions& o) {
  const Checkpoint checkpoint = Checkpoint::open(o.path);
  const CheckpointClaims claims = claims_for(checkpoint);
  const std::vector<Row> rows = rows_of(checkpoint, claims);
  const Output out{o.json};
  std::uint64_t total = 0;
  std::size_t width = 6;
  for (const Row& row : rows) {
    total += row.bytes;
    width = std::max(width, row.name.size());
  }
  nlohmann::ordered_json json{{"tensors", nlohmann::ordered_json::array()}};
  for (const Row& row : rows) {
    out.line(fmt::format("{:<{}}  {:<8} {:<16} {:>9}  {}", row.name, width, row.dtype, row.shape,
                         human_bytes(row.bytes), row.note));
    json["tensors"].push_back({{"name", row.name},
                               {"dtype", row.dtype},
                               {"shape", checkpoint.tensor(row.name).shape},
                               {"bytes", row.bytes},
                               {"file", row.file},
                               {"stores", row.note}});
  }
  const auto& config = checkpoint.config();
  const std::string architecture = config.contains("architectures") && config["architectures"].is_array() &&
                                           !config["architectures"].empty() &&
                                           config["architectures"][0].is_string()
                                       ? config["architectures"][0].get<std::string>()
                                       : "no architecture named";
  out.line(fmt::format("{} tensors, {} in {} file{}; {}", rows.size(), human_bytes(total),
                       checkpoint.shards().size(), checkpoint.shards().size() == 1 ? "" : "s", architecture));
  if (const auto summary = claims.summary()) {
    out.line("config says " + *summary);
    json["config"] = *summary;
  }
  if (const std::string arrangement = arrangement_of(checkpoint); !arrangement.empty()) {
    out.line("arranged    " + arrangement);
    json["arrangement"] = arrangement;
  }
  json["bytes"] = total;
  json["files"] = checkpoint.shards();
  json["architecture"] = architecture;
  out.json(json);
}

}  // namespace

void add_inspect(CLI::App& root) {
  auto o = std::make_shared<InspectOptions>();
  auto* cmd = root.add_subcommand("inspect", "what a checkpoint holds, tensor by tensor");
  cmd->add_option("checkpoint", o->path, "directory or .safetensors file")->required();
  cmd->add_option("--json", o->json, "write the results to a file, or - for standard output");
  cmd->callback([o] { run(*o); });
}

}  // namespace mpk
