#pragma once
// A new file of known size, written in pieces from any thread.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

#include "packer/io/file_descriptor.hpp"

namespace mpk {

/// Every failure is Error{device} that names the file, and the bytes it needs where space ran out.
class OutputFile {
 public:
  /// The file must not exist. Its blocks are reserved now where the file system can do that, so that a full
  /// disk is found before hours of work.
  static OutputFile create(const std::filesystem::path& path, std::uint64_t size_bytes);

  /// A file that an earlier process created so and did not finish. Throws Error{mismatch} if its size is
  /// another.
  static OutputFile open_existing(const std::filesystem::path& path, std::uint64_t size_bytes);

  /// Whole blocks go past the page cache, which costs several times the processor time of the rest of a
  /// conversion, if the file system can do that and they begin at multiples of kBlockBytes in memory and in
  /// the file. They are as durable as other bytes: after fsync.
  static constexpr std::size_t kBlockBytes = 4096;
  bool bypasses_cache() const { return direct_.is_open(); }

  /// Returns when all is written; pieces must not overlap.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes) const;
  /// What has been written is on disk afterwards.
  void flush() const;
  /// Reports what the system could only tell at the end (quota, network file systems).
  void close();

 private:
  OutputFile(std::filesystem::path path, FileDescriptor file, std::uint64_t size_bytes)
      : path_{std::move(path)}, file_{std::move(file)}, size_bytes_{size_bytes} {}
  std::ptrdiff_t write_some(std::uint64_t offset, std::span<const std::byte> bytes) const;
  Error failure(const char* action, int error_number) const;

  std::filesystem::path path_;
  FileDescriptor file_;
  FileDescriptor direct_{-1};  ///< the same file without the page cache; closed: it has to go through it
  std::uint64_t size_bytes_;
};

/// The whole content of a new file.
void write_new_file(const std::filesystem::path& path, std::string_view content);

}  // namespace mpk
