#include "packer/io/shard_plan.hpp"

#include <algorithm>
#include <tuple>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "packer/format/error.hpp"
#include "packer/io/checkpoint_files.hpp"
#include "packer/io/printable.hpp"
#include "packer/io/safetensors.hpp"

namespace mpk {

namespace {

using nlohmann::json;

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kAlignment = 8;  // of the data, and so of every tensor, since wide types stand first

PlannedTensor checked(const TensorSpec& spec, std::unordered_set<std::string>& seen) {
  return within("tensor " + in_quotes(spec.name), [&] {
    if (spec.name == "__metadata__") throw Error{ErrorKind::bad_input, "this name is reserved by the format"};
    if (!seen.insert(spec.name).second) throw Error{ErrorKind::bad_input, "the output would hold it twice"};
    return PlannedTensor{spec, 0, tensor_bytes(spec.dtype, spec.shape)};
  });
}

std::string json_string(const std::string& text) {
  try {
    return json(text).dump();
  } catch (const json::exception&) {
    throw Error{ErrorKind::bad_input, in_quotes(text) + " is not UTF-8"};
  }
}

/// Canonical: by dtype in the order of the enumeration, then by name.
void put_in_file_order(PlannedShard& shard, const std::map<std::string, std::string>& metadata) {
  std::sort(shard.tensors.begin(), shard.tensors.end(), [](const PlannedTensor& a, const PlannedTensor& b) {
    return std::tie(a.spec.dtype, a.spec.name) < std::tie(b.spec.dtype, b.spec.name);
  });

  std::string text = R"({"__metadata__":{"format":"pt")";
  for (const auto& [key, value] : metadata)
    text += fmt::format(",{}:{}", json_string(key), json_string(value));
  text += '}';
  std::uint64_t end = 0;
  for (const auto& tensor : shard.tensors) {
    const auto begin = std::exchange(end, end + tensor.size_bytes);
    text += fmt::format(R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                        json_string(tensor.spec.name), info(tensor.spec.dtype).name,
                        fmt::join(tensor.spec.shape, ","), begin, end);
  }
  text += '}';
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  if (text.size() > kMaxHeaderBytes)
    throw Error{
        ErrorKind::unsupported,
        fmt::format("the header of {} would be {} bytes, over the format's limit of {}; use smaller shards",
                    shard.file_name, text.size(), kMaxHeaderBytes)};

  for (std::uint64_t i = 0; i < kLengthBytes; ++i) shard.header += static_cast<char>(text.size() >> (8 * i));
  shard.header += text;
  std::uint64_t offset = shard.header.size();
  for (auto& tensor : shard.tensors) tensor.offset = std::exchange(offset, offset + tensor.size_bytes);
  shard.size_bytes = offset;
}

}  // namespace

std::vector<PlannedShard> plan_shards(const std::vector<TensorSpec>& specs, std::uint64_t max_shard_bytes,
                                      const std::map<std::string, std::string>& metadata) {
  if (max_shard_bytes == 0) throw Error{ErrorKind::usage, "the maximal shard size must be positive"};

  std::vector<PlannedShard> shards(1);
  std::unordered_set<std::string> seen;
  std::uint64_t filled = 0;
  for (const auto& spec : specs) {
    auto tensor = checked(spec, seen);
    const bool fits = filled <= max_shard_bytes && tensor.size_bytes <= max_shard_bytes - filled;
    if (!fits && !shards.back().tensors.empty()) {
      shards.emplace_back();
      filled = 0;
    }
    filled += tensor.size_bytes;
    shards.back().tensors.push_back(std::move(tensor));
  }

  for (std::size_t i = 0; i < shards.size(); ++i) {
    shards[i].file_name = shards.size() == 1
                              ? kSingleFileName
                              : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    put_in_file_order(shards[i], metadata);
  }
  return shards;
}

std::string index_text(const std::vector<PlannedShard>& shards) {
  json index;
  std::uint64_t total = 0;
  for (const auto& shard : shards)
    for (const auto& tensor : shard.tensors) {
      index["weight_map"][tensor.spec.name] = shard.file_name;
      total += tensor.size_bytes;
    }
  index["metadata"]["total_size"] = total;
  return index.dump(2) + '\n';
}

}  // namespace mpk
