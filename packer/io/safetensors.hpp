#pragma once
// The safetensors container: 8 bytes of header length, a JSON header, tensor bytes without gaps (FORMAT.md,
// "Container").

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "packer/format/tensor.hpp"
#include "packer/io/mapped_file.hpp"

namespace mpk {

inline constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  ///< the format's own limit for the JSON

struct TensorEntry {
  DType dtype = DType::F32;
  Shape shape;
  std::uint64_t begin = 0, end = 0;  ///< bytes, counted from the end of the header
};

struct SafetensorsHeader {
  std::uint64_t size_bytes = 0;  ///< the length field and the JSON with its padding: where the data begins
  std::map<std::string, TensorEntry> tensors;
  std::map<std::string, std::string> metadata;
};

/// Bytes of a tensor, without overflow whatever the order of the dimensions: the product of the non-zero ones
/// must fit too, so that nobody downstream can overflow on (0, 2^62, 2^62). Throws Error{bad_input}.
std::uint64_t tensor_bytes(DType dtype, const Shape& shape);

/// Checks everything the format demands of `file`, the bytes of a whole file; looks at no tensor data.
/// Stricter than some readers: unknown fields of an entry and padding other than spaces are refused. Throws
/// Error{bad_input}.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file);

/// A mapped and checked file.
class SafetensorsFile {
 public:
  /// Errors name the file.
  static SafetensorsFile open(const std::filesystem::path& path);

  const SafetensorsHeader& header() const { return header_; }
  /// The bytes before the data.
  std::span<const std::byte> header_bytes() const { return map_.bytes().first(header_.size_bytes); }
  /// Lives as long as this object; aligned to nothing, since a header may have any length.
  TensorView view(const TensorEntry& entry) const;

 private:
  SafetensorsFile(MappedFile map, SafetensorsHeader header)
      : map_{std::move(map)}, header_{std::move(header)} {}
  MappedFile map_;
  SafetensorsHeader header_;
};

}  // namespace mpk
