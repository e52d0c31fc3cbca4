#pragma once
// A whole file as read-only memory.

#include <cstddef>
#include <filesystem>
#include <span>

namespace mpk {

/// The bytes of a regular file. Pages are read when touched, so mapping a 100 GB checkpoint costs nothing. A
/// file that somebody truncates while it is mapped ends the process (SIGBUS); one that is replaced by rename
/// does not.
class MappedFile {
 public:
  /// Throws Error{bad_input} if the file is missing, unreadable or not a regular file.
  static MappedFile open(const std::filesystem::path& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }
  /// Begins to read a part from disk into the page cache, for the touches to come.
  static void read_ahead(std::span<const std::byte> part);
  /// Gives the memory of a part back; the next touch reads it from the file again.
  static void release(std::span<const std::byte> part);

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_{bytes} {}
  std::span<const std::byte> bytes_;
};

}  // namespace mpk
