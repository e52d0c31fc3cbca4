#pragma once
// A file descriptor that closes itself, and operating-system errors as Error.

#include <filesystem>
#include <string>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "packer/format/error.hpp"

namespace mpk {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_{fd} {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  /// The caller closes it, and sees whether that worked.
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

/// "cannot open model.safetensors: Permission denied".
inline Error os_error(ErrorKind kind, const std::string& what, int error_number) {
  return {kind, what + ": " + std::generic_category().message(error_number)};
}

}  // namespace mpk
