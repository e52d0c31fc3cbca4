#include "packer/io/checkpoint.hpp"

#include <algorithm>
#include <array>
#include <system_error>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/checkpoint_files.hpp"
#include "packer/io/json_file.hpp"
#include "packer/io/printable.hpp"
#include "packer/io/safetensors.hpp"

namespace mpk {

namespace fs = std::filesystem;

struct Checkpoint::Impl {
  struct Location {
    std::size_t shard_idx;
    const TensorEntry* entry;  ///< in files[shard_idx], which never moves after opening
  };

  fs::path directory;
  std::vector<std::string> shards;
  std::vector<SafetensorsFile> files;  ///< one per shard
  nlohmann::json config;
  std::unordered_map<std::string, Location> tensors;
  std::vector<std::string> names;

  void open_shards();
  void check_against(const std::map<std::string, std::string>& weight_map) const;
  const Location& find(const std::string& name) const;
  const SafetensorsFile& shard(const std::string& name) const;
};

namespace {

[[noreturn]] void reject(const std::string& what) {
  throw Error{ErrorKind::bad_input, what};
}

constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{16} << 20;
constexpr const char* kConfigFileName = "config.json";

nlohmann::json read_config(const fs::path& directory) {
  std::error_code error;
  if (fs::symlink_status(directory / kConfigFileName, error).type() == fs::file_type::not_found)
    return nullptr;
  const auto path = file_inside(directory, kConfigFileName);
  auto config = read_json_file(path, {.max_bytes = kMaxConfigBytes});
  if (!config.is_object()) reject("config.json is not an object\n  in file " + path.string());
  return config;
}

/// What a derived checkpoint does not carry over.
bool is_weights(const std::string& name) {
  static constexpr std::array kEndings{".safetensors", ".safetensors.index.json",
                                       ".bin",         ".bin.index.json",
                                       ".pt",          ".pth",
                                       ".gguf",        ".h5",
                                       ".msgpack",     ".onnx"};
  return std::any_of(kEndings.begin(), kEndings.end(), [&](const char* end) { return name.ends_with(end); });
}

}  // namespace

void Checkpoint::Impl::open_shards() {
  files.reserve(shards.size());
  for (const auto& shard : shards) files.push_back(SafetensorsFile::open(directory / shard));
  for (std::size_t i = 0; i < files.size(); ++i)
    for (const auto& [name, entry] : files[i].header().tensors)
      if (const auto [other, is_new] = tensors.try_emplace(name, Location{i, &entry}); !is_new)
        reject(fmt::format("tensor {} is in two files: {} and {}", in_quotes(name),
                           in_quotes(shards[other->second.shard_idx]), in_quotes(shards[i])));
  names.reserve(tensors.size());
  for (const auto& [name, location] : tensors) names.push_back(name);
  std::sort(names.begin(), names.end());
}

void Checkpoint::Impl::check_against(const std::map<std::string, std::string>& weight_map) const {
  for (const auto& [name, shard] : weight_map) {
    const auto found = tensors.find(name);
    if (found == tensors.end())
      reject(fmt::format("the index lists tensor {} in {}, which has no such tensor", in_quotes(name),
                         in_quotes(shard)));
    if (const auto& actual = shards[found->second.shard_idx]; actual != shard)
      reject(fmt::format("the index lists tensor {} in {}, but it is in {}", in_quotes(name),
                         in_quotes(shard), in_quotes(actual)));
  }
  for (const auto& name : names)
    if (!weight_map.contains(name))
      reject(fmt::format("tensor {} in {} is not in the index", in_quotes(name),
                         in_quotes(shards[tensors.at(name).shard_idx])));
}

const Checkpoint::Impl::Location& Checkpoint::Impl::find(const std::string& name) const {
  const auto found = tensors.find(name);
  if (found == tensors.end())
    reject(fmt::format("checkpoint {} has no tensor {}", directory.string(), in_quotes(name)));
  return found->second;
}

const SafetensorsFile& Checkpoint::Impl::shard(const std::string& name) const {
  const auto found = std::find(shards.begin(), shards.end(), name);
  if (found == shards.end())
    reject(fmt::format("checkpoint {} has no shard {}", directory.string(), in_quotes(name)));
  return files[static_cast<std::size_t>(found - shards.begin())];
}

Checkpoint Checkpoint::open(const fs::path& path) {
  auto found = find_checkpoint_files(path);
  auto impl = std::make_shared<Impl>();
  impl->directory = std::move(found.directory);
  impl->shards = std::move(found.shards);
  within("checkpoint " + path.string(), [&] {
    impl->open_shards();
    if (found.weight_map) impl->check_against(*found.weight_map);
    impl->config = read_config(impl->directory);
  });
  Checkpoint checkpoint;
  checkpoint.impl_ = std::move(impl);
  return checkpoint;
}

const fs::path& Checkpoint::directory() const {
  return impl_->directory;
}
const std::vector<std::string>& Checkpoint::shards() const {
  return impl_->shards;
}
const nlohmann::json& Checkpoint::config() const {
  return impl_->config;
}
const std::vector<std::string>& Checkpoint::names() const {
  return impl_->names;
}
bool Checkpoint::contains(const std::string& name) const {
  return impl_->tensors.contains(name);
}

TensorView Checkpoint::tensor(const std::string& name) const {
  const auto& location = impl_->find(name);
  return impl_->files[location.shard_idx].view(*location.entry);
}

void Checkpoint::read_ahead(const std::string& name) const {
  MappedFile::read_ahead(tensor(name).data);
}

void Checkpoint::release(const std::string& name) const {
  MappedFile::release(tensor(name).data);
}

const std::string& Checkpoint::shard_of(const std::string& name) const {
  return impl_->shards[impl_->find(name).shard_idx];
}

std::span<const std::byte> Checkpoint::header_bytes(const std::string& shard) const {
  return impl_->shard(shard).header_bytes();
}

std::string Checkpoint::where(const std::string& name) const {
  const auto& location = impl_->find(name);
  return fmt::format("tensor {} {} {} in file {}", printable(name), to_string(location.entry->shape),
                     info(location.entry->dtype).name,
                     (impl_->directory / impl_->shards[location.shard_idx]).string());
}

std::vector<std::string> Checkpoint::side_files() const {
  std::vector<std::string> names;
  for (auto& name : visible_entries(impl_->directory)) {
    if (is_weights(name) || name == "marlin_pack.json") continue;
    if (fs::is_regular_file(file_inside(impl_->directory, name))) names.push_back(std::move(name));
  }
  return names;
}

}  // namespace mpk
