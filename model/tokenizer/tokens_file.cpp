// load_tokens: ids that somebody else made, or a text and a tokenizer.

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "model/tokenizer/json_spec.hpp"
#include "model/tokenizer/npy.hpp"
#include "model/tokenizer/tokenizer.hpp"
#include "model/tokenizer/unicode.hpp"
#include "packer/format/error.hpp"
#include "packer/io/checkpoint.hpp"
#include "packer/io/json_file.hpp"
#include "packer/io/mapped_file.hpp"

namespace mpk {
namespace {

using tok::bad;
using tok::Json;
using Ids = std::vector<std::int32_t>;

template <class T>
Ids ids_from(const TensorView& tensor) {
  Ids ids(tensor.data.size() / sizeof(T));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    T value;
    std::memcpy(&value, tensor.data.data() + i * sizeof(T), sizeof(T));  // a mapped file need not be aligned
    if (!std::in_range<std::int32_t>(value) || value < T{0})
      bad(fmt::format("element {} is {}; ids are 0 to 2^31 - 1", i, value));
    ids[i] = static_cast<std::int32_t>(value);
  }
  return ids;
}

bool is_integer(DType dtype) {
  const std::string_view name = info(dtype).name;
  return (name[0] == 'I' || name[0] == 'U') && dtype != DType::BOOL;
}

Ids ids_from_tensor(const TensorView& tensor) {
  if (tensor.shape.empty() || tensor.shape.size() > 2)
    bad("shape " + to_string(tensor.shape) + " is neither a list of ids nor rows of them");
  switch (tensor.dtype) {
    case DType::I8:
      return ids_from<std::int8_t>(tensor);
    case DType::I16:
      return ids_from<std::int16_t>(tensor);
    case DType::I32:
      return ids_from<std::int32_t>(tensor);
    case DType::I64:
      return ids_from<std::int64_t>(tensor);
    case DType::U8:
      return ids_from<std::uint8_t>(tensor);
    case DType::U16:
      return ids_from<std::uint16_t>(tensor);
    case DType::U32:
      return ids_from<std::uint32_t>(tensor);
    case DType::U64:
      return ids_from<std::uint64_t>(tensor);
    default:
      bad(fmt::format("elements are {}, not integers", info(tensor.dtype).name));
  }
}

Ids from_safetensors(const std::filesystem::path& file) {
  const Checkpoint checkpoint = Checkpoint::open(file);
  std::string name = "input_ids";
  if (!checkpoint.contains(name)) {
    std::vector<std::string> integers;
    for (const std::string& candidate : checkpoint.names())
      if (is_integer(checkpoint.tensor(candidate).dtype)) integers.push_back(candidate);
    if (integers.size() != 1)
      bad(fmt::format("{} integer tensors and none called \"input_ids\": which has the ids is unclear",
                      integers.size()));
    name = integers.front();
  }
  return within("tensor " + name, [&] { return ids_from_tensor(checkpoint.tensor(name)); });
}

Ids from_npy(const std::filesystem::path& file) {
  const MappedFile mapped = MappedFile::open(file);
  return ids_from_tensor(tok::parse_npy(mapped.bytes()));
}

std::string_view text_of(const MappedFile& mapped) {
  return {reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size()};
}

void append_line(std::string_view line, Ids& ids) {
  const Json json = parse_json(line);
  const Json& list = json.is_object() ? tok::list_member(json, "input_ids") : json;
  if (!list.is_array())
    bad(fmt::format("expected a list of ids or {{\"input_ids\": [...]}}, found {}", list.type_name()));
  for (std::size_t i = 0; i < list.size(); ++i)
    ids.push_back(tok::token_id(list[i], [i] { return fmt::format("element {}", i); }));
}

Ids from_jsonl(const std::filesystem::path& file) {
  const MappedFile mapped = MappedFile::open(file);
  std::string_view rest = text_of(mapped);
  Ids ids;
  for (std::size_t number = 1; !rest.empty(); ++number) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    within(fmt::format("line {}", number), [&] { append_line(line, ids); });
  }
  return ids;
}

Ids from_text(const std::filesystem::path& file, const std::filesystem::path& checkpoint_directory) {
  const MappedFile mapped = MappedFile::open(file);
  tok::require_utf8(text_of(mapped), "the text");
  return load_tokenizer(checkpoint_directory)->encode(text_of(mapped));
}

}  // namespace

std::vector<std::int32_t> load_tokens(const std::filesystem::path& file,
                                      const std::filesystem::path& checkpoint_directory) {
  return within("tokens file " + file.string(), [&] {
    const std::string extension = file.extension().string();
    if (extension == ".safetensors") return from_safetensors(file);
    if (extension == ".npy") return from_npy(file);
    if (extension == ".jsonl") return from_jsonl(file);
    return from_text(file, checkpoint_directory);
  });
}

}  // namespace mpk
