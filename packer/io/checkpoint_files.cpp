#include "packer/io/checkpoint_files.hpp"

#include <algorithm>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/json_file.hpp"
#include "packer/io/printable.hpp"

namespace mpk {

namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;
using WeightMap = std::map<std::string, std::string>;

[[noreturn]] void reject(const std::string& what) {
  throw Error{ErrorKind::bad_input, what};
}

/// "model-00002-of-00007.safetensors" is {"model", 2, 7}.
struct ShardName {
  std::string stem;
  unsigned long number, count;
};
std::optional<ShardName> shard_name(const std::string& name) {
  constexpr std::string_view kForm = "-#####-of-#####.safetensors";  // # is a digit
  if (name.size() < kForm.size()) return std::nullopt;
  const auto stem = name.size() - kForm.size();
  for (std::size_t i = 0; i < kForm.size(); ++i) {
    const char c = name[stem + i];
    if (kForm[i] == '#' ? c < '0' || c > '9' : c != kForm[i]) return std::nullopt;
  }
  return ShardName{name.substr(0, stem), std::stoul(name.substr(stem + 1, 5)),
                   std::stoul(name.substr(stem + 10, 5))};
}

/// A name from an index is one component, so that it cannot lead anywhere else.
void check_file_name(const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos)
    reject("shard name " + in_quotes(name) + " is not a plain file name");
  if (!name.ends_with(".safetensors"))
    reject("shard name " + in_quotes(name) + " does not end in .safetensors");
}

/// total_size is not looked at: writers count tied or converted tensors differently, nothing depends on it.
WeightMap read_index(const fs::path& path) {
  const auto document = read_json_file(path);
  return within("file " + path.string(), [&] {
    if (!document.is_object() || !document.contains("weight_map") || !document["weight_map"].is_object())
      reject("the index has no object \"weight_map\"");
    WeightMap weight_map;
    for (const auto& [tensor, shard] : document["weight_map"].items()) {
      if (!shard.is_string()) reject("weight_map gives no file name for tensor " + in_quotes(tensor));
      within("tensor " + in_quotes(tensor),
             [&name = shard.get_ref<const std::string&>()] { check_file_name(name); });
      weight_map.emplace(tensor, shard.get<std::string>());
    }
    if (weight_map.empty()) reject("weight_map is empty");
    return weight_map;
  });
}

/// A shard of some set that is not among `used` was forgotten here or belongs to another model: a danger
/// both.
void check_no_stray_shard(const Names& weights, const Names& used, const std::string& authority) {
  for (const auto& name : weights)
    if (shard_name(name) && !std::binary_search(used.begin(), used.end(), name))
      reject(fmt::format("{} is a shard that {} does not account for; remove one or restore the index",
                         in_quotes(name), authority));
}

/// Without an index the names are all there is to tell that a shard is missing.
void check_complete(const Names& shards) {
  std::map<std::pair<std::string, unsigned long>, std::set<unsigned long>> sets;
  for (const auto& name : shards)
    if (const auto shard = shard_name(name)) sets[{shard->stem, shard->count}].insert(shard->number);
  for (const auto& [set, numbers] : sets)
    for (unsigned long number = 1; number <= set.second; ++number)
      if (!numbers.contains(number))
        reject(fmt::format("{}-{:05}-of-{:05}.safetensors is missing; is the download complete?", set.first,
                           number, set.second));
}

[[noreturn]] void reject_without_weights(const Names& entries) {
  if (entries.empty())
    reject("the directory is empty; expected model.safetensors or shards with their index");
  for (const char* extension : {".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"})
    for (const auto& name : entries)
      if (name.ends_with(extension))
        reject(fmt::format(
            "no .safetensors file here, only weights such as {}; convert them to safetensors first "
            "(in Python: AutoModelForCausalLM.from_pretrained(dir).save_pretrained(new_dir))",
            in_quotes(name)));
  reject("no .safetensors file here; expected model.safetensors or shards with their index");
}

CheckpointFiles find_in_directory(const fs::path& directory) {
  const Names entries = visible_entries(directory);
  Names weights;
  for (const auto& name : entries)
    if (name.ends_with(".safetensors")) weights.push_back(name);
  const bool has_single = std::binary_search(weights.begin(), weights.end(), kSingleFileName);
  const bool has_index = std::binary_search(entries.begin(), entries.end(), kIndexFileName);

  CheckpointFiles files{directory, {}, {}};
  if (has_index) {
    files.weight_map = read_index(file_inside(directory, kIndexFileName));
    std::set<std::string> named;
    for (const auto& [tensor, shard] : *files.weight_map) named.insert(shard);
    files.shards.assign(named.begin(), named.end());
    if (has_single && !named.contains(kSingleFileName))
      reject(fmt::format(
          "{} and {} are both here and disagree: the index does not list the file; remove one of them",
          kSingleFileName, kIndexFileName));
    for (const auto& shard : files.shards)
      if (!std::binary_search(weights.begin(), weights.end(), shard))
        reject(fmt::format("{} lists {}, which is not here; is the download complete?", kIndexFileName,
                           in_quotes(shard)));
    check_no_stray_shard(weights, files.shards, kIndexFileName);
  } else if (has_single) {
    files.shards = {kSingleFileName};
    check_no_stray_shard(weights, files.shards, kSingleFileName);
  } else if (weights.empty()) {
    reject_without_weights(entries);
  } else {
    check_complete(weights);
    files.shards = std::move(weights);
  }
  for (const auto& shard : files.shards) file_inside(directory, shard);
  return files;
}

bool is_below(const fs::path& path, const fs::path& directory) {
  const auto [end, unused] = std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  return end == directory.end();
}

}  // namespace

Names visible_entries(const fs::path& directory) {
  Names names;
  std::error_code error;
  for (fs::directory_iterator entry{directory, error}, end; !error && entry != end; entry.increment(error))
    if (auto name = entry->path().filename().string(); !name.starts_with('.'))
      names.push_back(std::move(name));
  if (error) reject("cannot list directory " + directory.string() + ": " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

fs::path file_inside(const fs::path& directory, const std::string& name) {
  const fs::path path = directory / name;
  std::error_code error;
  if (!fs::is_symlink(path, error)) return path;  // missing files are for whoever opens them
  const auto target = fs::canonical(path, error);
  if (error) reject("symbolic link " + path.string() + " leads nowhere: " + error.message());
  const auto home = fs::canonical(directory);
  if (is_below(target, home)) return path;
  const auto snapshots = home.parent_path();
  if (snapshots.filename() == "snapshots" && is_below(target, snapshots.parent_path() / "blobs")) return path;
  reject("symbolic link " + path.string() + " leaves its directory; replace it by the file it points to");
}

CheckpointFiles find_checkpoint_files(const fs::path& path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) reject(path.string() + " does not exist");
  if (error) reject("cannot examine " + path.string() + ": " + error.message());
  if (fs::is_directory(status))
    return within("directory " + path.string(), [&] { return find_in_directory(path); });

  // A path the user spelt out may be a link to anywhere.
  const auto name = path.filename().string();
  if (name.ends_with(".safetensors.index.json"))
    reject(path.string() + " is an index; give the directory that holds it");
  if (!name.ends_with(".safetensors"))
    reject(path.string() + " is neither a directory nor a .safetensors file");
  return {path.has_parent_path() ? path.parent_path() : fs::path{"."}, {name}, {}};
}

}  // namespace mpk
