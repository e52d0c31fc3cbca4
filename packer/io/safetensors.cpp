#include "packer/io/safetensors.hpp"

#include <algorithm>
#include <limits>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "packer/format/error.hpp"
#include "packer/io/json_file.hpp"
#include "packer/io/printable.hpp"

namespace mpk {

namespace {

using nlohmann::json;

constexpr std::uint64_t kLengthBytes = 8;
constexpr int kHeaderDepth = 3;  // header, entry, list
constexpr std::string_view kMetadata = "__metadata__";

[[noreturn]] void reject(const std::string& what) {
  throw Error{ErrorKind::bad_input, what};
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// What people rename to .safetensors, or get instead of it.
const char* disguise(std::string_view file) {
  if (file.starts_with("version https://git-lfs")) return "; this is a git-lfs pointer: run 'git lfs pull'";
  if (file.starts_with("PK\x03\x04")) return "; this looks like a PyTorch or zip file";
  if (file.starts_with("GGUF")) return "; this is a GGUF file";
  if (file.starts_with("<")) return "; this looks like a web page";
  return "";
}

/// Length of the JSON with its padding, known to lie inside the file.
std::uint64_t header_length(std::string_view file) {
  if (file.size() < kLengthBytes)
    reject(
        fmt::format("{} bytes are too few for a safetensors file; is the download complete?", file.size()));
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<unsigned char>(file[i]);
  if (length > kMaxHeaderBytes)
    reject(
        fmt::format("header length {} is over the limit of {}{}", length, kMaxHeaderBytes, disguise(file)));
  if (length > file.size() - kLengthBytes)
    reject(fmt::format("header length {} runs past the end of the file ({} bytes){}", length, file.size(),
                       *disguise(file) ? disguise(file) : "; is the download complete?"));
  return length;
}

/// The JSON alone.
std::string_view without_padding(std::string_view text) {
  if (!text.starts_with('{')) reject("header does not start with '{'; is this a safetensors file?");
  text = text.substr(0, text.find_last_not_of(' ') + 1);
  if (!text.ends_with('}')) reject("header does not end with '}' and spaces");
  return text;
}

const json& field(const json& entry, const char* key) {
  const auto found = entry.find(key);
  if (found == entry.end()) reject(fmt::format("entry has no {}", in_quotes(key)));
  return *found;
}

/// What comes as a float is a fraction, an exponent or too big; what comes as signed began with a minus.
std::uint64_t unsigned_number(const json& value, const char* what) {
  if (!value.is_number_unsigned())
    reject(fmt::format("{} holds {}, not an integer from 0 to 2^63 - 1", what, printable(value.dump(), 60)));
  const auto number = value.get<std::uint64_t>();
  if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    reject(fmt::format("{} holds {}, which is over 2^63 - 1", what, number));
  return number;
}

TensorEntry parse_entry(const json& value) {
  if (!value.is_object()) reject("entry is not an object with dtype, shape and data_offsets");
  for (const auto& [key, unused] : value.items())
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      reject(fmt::format("entry has the unknown field {}", in_quotes(key)));

  TensorEntry entry;
  const json& dtype = field(value, "dtype");
  if (!dtype.is_string()) reject("dtype is not a string");
  const auto known = dtype_named(dtype.get_ref<const std::string&>());
  if (!known) reject(fmt::format("unknown dtype {}", in_quotes(dtype.get_ref<const std::string&>())));
  entry.dtype = *known;

  const json& shape = field(value, "shape");
  if (!shape.is_array()) reject("shape is not a list");
  for (const json& extent : shape)
    entry.shape.push_back(static_cast<std::int64_t>(unsigned_number(extent, "shape")));

  const json& offsets = field(value, "data_offsets");
  if (!offsets.is_array() || offsets.size() != 2) reject("data_offsets is not a list of two numbers");
  entry.begin = unsigned_number(offsets[0], "data_offsets");
  entry.end = unsigned_number(offsets[1], "data_offsets");
  if (entry.end < entry.begin)
    reject(fmt::format("data_offsets [{}, {}] end before they begin", entry.begin, entry.end));

  const auto needed = tensor_bytes(entry.dtype, entry.shape);
  if (entry.end - entry.begin != needed)
    reject(fmt::format("{} {} needs {} bytes, data_offsets [{}, {}] cover {}", info(entry.dtype).name,
                       to_string(entry.shape), needed, entry.begin, entry.end, entry.end - entry.begin));
  return entry;
}

std::map<std::string, std::string> parse_metadata(const json& value) {
  if (!value.is_object()) reject("__metadata__ is not an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) reject(fmt::format("__metadata__ field {} is not a string", in_quotes(key)));
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

/// Tensors in file order must follow each other exactly, from the first data byte to the last.
void check_no_gaps(const SafetensorsHeader& header, std::uint64_t data_bytes) {
  using Named = std::pair<const std::string, TensorEntry>;
  std::vector<const Named*> in_file;
  for (const auto& named : header.tensors) in_file.push_back(&named);
  std::sort(in_file.begin(), in_file.end(), [](const Named* a, const Named* b) {
    return std::tie(a->second.begin, a->second.end) < std::tie(b->second.begin, b->second.end);
  });

  std::uint64_t reached = 0;
  const Named* previous = nullptr;
  for (const Named* current : in_file) {
    const auto begin = current->second.begin;
    if (begin != reached) {
      const std::string before =
          previous ? "tensor " + in_quotes(previous->first) : "the beginning of the data";
      if (begin < reached)
        reject(fmt::format("tensor {} at offset {} overlaps {}, which ends at {}", in_quotes(current->first),
                           begin, before, reached));
      reject(fmt::format("hole of {} bytes between {} and tensor {} at offset {}", begin - reached, before,
                         in_quotes(current->first), begin));
    }
    reached = current->second.end;
    previous = current;
  }
  const std::string last = previous ? "the last tensor " + in_quotes(previous->first) : "no tensor";
  if (reached > data_bytes)
    reject(fmt::format("{} ends at offset {}, the file's data at {}; is the download complete?", last,
                       reached, data_bytes));
  if (reached < data_bytes)
    reject(fmt::format("{} bytes after {} belong to no tensor", data_bytes - reached, last));
}

}  // namespace

std::uint64_t tensor_bytes(DType dtype, const Shape& shape) {
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  std::int64_t bits = info(dtype).bits;
  bool empty = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0) reject(fmt::format("shape {} has a negative dimension", to_string(shape)));
    if (extent == 0) {
      empty = true;
    } else if (bits > kMax / extent) {
      reject(fmt::format("shape {} of {} overflows 63 bits", printable(to_string(shape)), info(dtype).name));
    } else {
      bits *= extent;
    }
  }
  if (empty) return 0;
  if (bits % 8 != 0)
    reject(
        fmt::format("shape {} of {} is {} bits, not whole bytes", to_string(shape), info(dtype).name, bits));
  return static_cast<std::uint64_t>(bits) / 8;
}

SafetensorsHeader parse_safetensors(std::span<const std::byte> file) {
  const auto length = header_length(as_text(file));
  const auto text = without_padding(as_text(file.subspan(kLengthBytes, length)));
  const json document = within("the header", [&] {
    return parse_json(text, {kMaxHeaderBytes, kHeaderDepth});
  });

  SafetensorsHeader header;
  header.size_bytes = kLengthBytes + length;
  for (const auto& [name, value] : document.items()) {
    if (name == kMetadata)
      header.metadata = parse_metadata(value);
    else
      header.tensors[name] =
          within("tensor " + in_quotes(name), [&entry = value] { return parse_entry(entry); });
  }
  check_no_gaps(header, file.size() - header.size_bytes);
  return header;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  return within("file " + path.string(), [&] {
    auto map = MappedFile::open(path);
    auto header = parse_safetensors(map.bytes());
    return SafetensorsFile{std::move(map), std::move(header)};
  });
}

TensorView SafetensorsFile::view(const TensorEntry& entry) const {
  return {entry.dtype, entry.shape,
          map_.bytes().subspan(header_.size_bytes + entry.begin, entry.end - entry.begin)};
}

}  // namespace mpk
