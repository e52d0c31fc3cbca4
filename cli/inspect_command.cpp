#include <memory>
#include <set>

#include <fmt/format.h>

#include "cli/commands.hpp"
#include "cli/pipeline/open_model.hpp"
#include "cli/terminal.hpp"
#include "packer/format/error.hpp"
#include "packer/weight_format.hpp"

namespace mpk {
namespace {

/// What a tensor is part of: a packed linear layer or nothing but itself.
struct Row {
  std::string name, dtype, shape, file, note;
  std::uint64_t bytes = 0;
};

std::string describe(const StoredMatrix& stored) {
  const auto& [scheme, k, n] = stored.geometry;
  return fmt::format("{}: {} K={} N={} group {}", stored.format->name, name_of(scheme.type), k.value, n.value,
                     scheme.group_size ? std::to_string(scheme.group_size->value) : "column");
}

/// What the tensors of one module are, if they store a matrix in one of our formats.
std::string note_for(const Checkpoint& checkpoint, const std::string& module) {
  PartViews parts = parts_of(checkpoint, module);
  try {
    const auto stored = recognize(parts);
    return stored ? describe(*stored) : std::string{};
  } catch (const Error& error) {
    return fmt::format("damaged: {}", error.what());
  }
}

std::vector<Row> rows_of(const Checkpoint& checkpoint) {
  std::vector<Row> rows;
  std::string module, note;
  for (const std::string& name : checkpoint.names()) {
    const TensorView tensor = checkpoint.tensor(name);
    if (const std::string owner = name.substr(0, name.rfind('.')); owner != module) {
      module = owner;
      note = note_for(checkpoint, module);
    }
    rows.push_back({name, info(tensor.dtype).name, to_string(tensor.shape), checkpoint.shard_of(name), note,
                    tensor.data.size()});
  }
  return rows;
}

struct InspectOptions {
  std::string path, json;
};

void run(const InspectOptions& o) {
  const Checkpoint checkpoint = Checkpoint::open(o.path);
  const std::vector<Row> rows = rows_of(checkpoint);
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
