#include "packer/io/output_file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <system_error>

#include <fmt/format.h>

namespace mpk {

namespace {

/// 0, or the error number. File systems without reservation get the size alone.
int reserve(int fd, off_t size) {
  if (size == 0) return 0;
  int status = 0;
  do {
    status = ::fallocate(fd, 0, 0, size);
  } while (status != 0 && errno == EINTR);
  if (status == 0) return 0;
  if (errno != EOPNOTSUPP && errno != ENOSYS) return errno;
  return ::ftruncate(fd, size) == 0 ? 0 : errno;
}

}  // namespace

Error OutputFile::failure(const char* action, int error_number) const {
  std::string what = fmt::format("cannot {} {}", action, path_.string());
  if (error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG) {
    what += fmt::format(", which needs {} bytes", size_bytes_);
    std::error_code unknown;
    const auto space = std::filesystem::space(path_.parent_path(), unknown);
    if (!unknown) what += fmt::format(" ({} are free there)", space.available);
  }
  return os_error(ErrorKind::device, what, error_number);
}

OutputFile OutputFile::create(const std::filesystem::path& path, std::uint64_t size_bytes) {
  OutputFile out{path, FileDescriptor{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)},
                 size_bytes};
  if (!out.file_.is_open()) throw out.failure("create", errno);
  if (const int error = reserve(out.file_.get(), static_cast<off_t>(size_bytes)))
    throw out.failure("reserve space for", error);
  out.direct_ = FileDescriptor{::open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC)};
  return out;
}

OutputFile OutputFile::open_existing(const std::filesystem::path& path, std::uint64_t size_bytes) {
  OutputFile out{path, FileDescriptor{::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW)}, size_bytes};
  if (!out.file_.is_open()) throw out.failure("open", errno);
  struct stat status {};
  if (::fstat(out.file_.get(), &status) != 0) throw out.failure("examine", errno);
  if (static_cast<std::uint64_t>(status.st_size) != size_bytes)
    throw Error{ErrorKind::mismatch,
                fmt::format("{} has {} bytes instead of {}", path.string(), status.st_size, size_bytes)};
  out.direct_ = FileDescriptor{::open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC)};
  return out;
}

void OutputFile::flush() const {
  if (::fsync(file_.get()) != 0) throw failure("flush", errno);
}

std::ptrdiff_t OutputFile::write_some(std::uint64_t offset, std::span<const std::byte> bytes) const {
  const std::size_t blocks = bytes.size() / kBlockBytes * kBlockBytes;
  if (direct_.is_open() && blocks > 0 && offset % kBlockBytes == 0 &&
      reinterpret_cast<std::uintptr_t>(bytes.data()) % kBlockBytes == 0) {
    const ssize_t written = ::pwrite(direct_.get(), bytes.data(), blocks, static_cast<off_t>(offset));
    if (written >= 0 || errno != EINVAL) return written;  // EINVAL: the device asks for larger blocks
  }
  return ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
}

void OutputFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const std::ptrdiff_t written = write_some(offset, bytes);
    if (written < 0) {
      if (errno == EINTR) continue;
      throw failure("write", errno);
    }
    if (written == 0) throw failure("write", EIO);  // no progress and no reason: do not try for ever
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void OutputFile::close() {
  direct_ = FileDescriptor{-1};
  if (file_.is_open() && ::close(file_.release()) != 0 && errno != EINTR) throw failure("close", errno);
}

void write_new_file(const std::filesystem::path& path, std::string_view content) {
  auto file = OutputFile::create(path, content.size());
  file.write_at(0, std::as_bytes(std::span{content}));
  file.close();
}

}  // namespace mpk
