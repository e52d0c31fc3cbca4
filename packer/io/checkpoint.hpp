#pragma once
// Reading a checkpoint: a directory with model.safetensors or shards and their index, or one .safetensors
// file.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "packer/format/tensor.hpp"

namespace mpk {

/// An open checkpoint. Tensors are views into memory maps that live as long as this object (and its copies);
/// a view may start at any byte, so read elements with memcpy. Opening validates every header and the index
/// completely and reads no tensor data.
class Checkpoint {
 public:
  /// Throws Error{bad_input} that names the file (and tensor) and says what is wrong with it.
  static Checkpoint open(const std::filesystem::path& path);

  /// The directory that holds the files.
  const std::filesystem::path& directory() const;
  /// The .safetensors files, in file-name order, relative to directory().
  const std::vector<std::string>& shards() const;
  /// config.json, or null when there is none.
  const nlohmann::json& config() const;

  /// All tensor names, sorted.
  const std::vector<std::string>& names() const;
  bool contains(const std::string& name) const;
  /// Throws Error{bad_input} if there is no such tensor.
  TensorView tensor(const std::string& name) const;
  /// Begins to read the tensor from disk, before anybody looks at it.
  void read_ahead(const std::string& name) const;
  /// Gives the memory that reading this tensor took back to the system; views stay valid.
  void release(const std::string& name) const;
  /// The shard that holds a tensor.
  const std::string& shard_of(const std::string& name) const;
  /// The bytes of a shard before its tensor data; with the tensors they are the whole file, for there are no
  /// gaps.
  std::span<const std::byte> header_bytes(const std::string& shard) const;
  /// "tensor NAME (shape) dtype in file FILE", for error frames.
  std::string where(const std::string& name) const;

  /// Regular files beside the shards that a derived checkpoint carries over (configuration, tokenizer, chat
  /// template, licence, unknown small files), relative to directory(), sorted. Leaves out: the shards and
  /// their index, weights in other formats (*.bin, *.pt, *.pth, *.gguf, *.h5, *.msgpack, *.onnx), hidden
  /// files, marlin_pack.json. Subdirectories are not entered. Throws Error{bad_input} on a symbolic link that
  /// leaves the directory, since copying it would publish what it points to.
  std::vector<std::string> side_files() const;

 private:
  Checkpoint() = default;
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace mpk
