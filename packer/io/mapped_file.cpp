#include "packer/io/mapped_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "packer/io/file_descriptor.hpp"

namespace mpk {

namespace {

std::uintptr_t page_bytes() {
  return static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
}

/// Addresses, rounded down to pages. Advice: a failure costs time at worst.
void advise(std::uintptr_t begin, std::uintptr_t end, int advice) {
  begin -= begin % page_bytes();
  end -= end % page_bytes();
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

}  // namespace

MappedFile MappedFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a named pipe must be refused below, not wait for a writer.
  const FileDescriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!file.is_open()) throw os_error(ErrorKind::bad_input, "cannot open " + path.string(), errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0)
    throw os_error(ErrorKind::bad_input, "cannot examine " + path.string(), errno);
  if (!S_ISREG(status.st_mode)) throw Error{ErrorKind::bad_input, path.string() + " is not a regular file"};

  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return MappedFile{{}};  // mmap refuses length 0
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) throw os_error(ErrorKind::device, "cannot map " + path.string(), errno);
  return MappedFile{{static_cast<const std::byte*>(address), size}};
}

void MappedFile::read_ahead(std::span<const std::byte> part) {
  constexpr std::uintptr_t kStep = std::uintptr_t{512} << 10;  // the system cuts longer requests off
  const auto begin = reinterpret_cast<std::uintptr_t>(part.data()), end = begin + part.size();
  for (std::uintptr_t at = begin; at < end; at += kStep)
    advise(at, std::min(at + kStep, end),
           MADV_WILLNEED);  // the last page, if it is another's too, comes with it
}

void MappedFile::release(std::span<const std::byte> part) {
  // Whole pages inside the part; its ends are shared with neighbours.
  const auto begin = reinterpret_cast<std::uintptr_t>(part.data());
  advise(begin + page_bytes() - 1, begin + part.size(), MADV_DONTNEED);
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_{std::exchange(other.bytes_, {})} {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace mpk
