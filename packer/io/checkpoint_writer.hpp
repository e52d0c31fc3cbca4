#pragma once
// Writing a checkpoint: same input, same bytes; and all of it or nothing.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "packer/format/tensor.hpp"

namespace mpk {

class SignalCleanup;

/// A directory next to its final place (same file system) that is renamed there by publish(). Destroyed
/// before that, it removes itself. Signals SIGINT, SIGTERM, SIGHUP remove it too; after kill -9 a directory
/// named
/// ".NAME.marlin-pack-XXXXXX" stays beside the target, never something that looks finished.
class StagingDirectory {
 public:
  /// Throws Error{usage} if `final_path` exists, Error{device} if its parent is missing, read-only or full.
  explicit StagingDirectory(std::filesystem::path final_path);
  ~StagingDirectory();
  StagingDirectory(const StagingDirectory&) = delete;
  StagingDirectory& operator=(const StagingDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Flushes every file to disk and renames. Never replaces something that appeared meanwhile.
  void publish();

 private:
  std::filesystem::path final_path_, path_;
  std::unique_ptr<SignalCleanup> cleanup_;
  bool published_ = false;
};

/// What will be written: known before any data is.
struct TensorSpec {
  std::string name;
  DType dtype = DType::F32;
  Shape shape;
};

/// Writes model.safetensors, or shards model-0000i-of-0000n.safetensors and model.safetensors.index.json.
/// Tensors go to shards in the order of `specs`; inside a shard they stand in canonical order (dtype, then
/// name). Headers are written by the constructor, data in any order and from any thread.
class CheckpointWriter {
 public:
  /// Whether the files are new, or those that another process with the same arguments began.
  enum class Begin { anew, where_it_was };
  /// `max_shard_bytes` bounds the tensor bytes of a shard; a larger single tensor gets a shard of its own.
  CheckpointWriter(std::filesystem::path directory, const std::vector<TensorSpec>& specs,
                   std::uint64_t max_shard_bytes, Begin begin = Begin::anew,
                   const std::map<std::string, std::string>& metadata = {});
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Each tensor exactly once, with the dtype and shape of its spec.
  void write(const std::string& name, const TensorView& tensor);
  /// Instead of write(): the file holds the tensor already, with these bytes. Throws Error{mismatch} if it
  /// holds others.
  void adopt(const std::string& name, const std::string& sha256);
  /// What write() was given is on disk afterwards.
  void flush() const;
  /// The bytes that write() or adopt() left in the file. Valid as long as this object.
  TensorView read(const std::string& name) const;
  /// Throws if a tensor is missing; closes the files.
  void finish();

  /// SHA-256 (hex) of the tensor's bytes as they were written; valid after write().
  std::string sha256(const std::string& name) const;
  /// SHA-256 (hex) of the bytes before a shard's tensor data: length field, JSON, padding.
  std::string header_sha256(const std::string& shard) const;
  /// The shard file a tensor went to.
  const std::string& shard_of(const std::string& name) const;
  /// Shard file names, in order.
  const std::vector<std::string>& shards() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mpk
