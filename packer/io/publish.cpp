#include "packer/io/publish.hpp"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "packer/io/file_descriptor.hpp"

namespace mpk {

namespace fs = std::filesystem;

fs::path output_path(const fs::path& path) {
  fs::path result;
  std::error_code ignored;  // leaves an empty path, as an empty one does
  result = fs::absolute(path, ignored).lexically_normal();
  if (!result.has_filename()) result = result.parent_path();
  if (!result.has_filename())
    throw Error{ErrorKind::usage, "output path \"" + path.string() + "\" has no name"};
  return result;
}

Error already_there(const fs::path& path) {
  return {ErrorKind::usage, path.string() + " exists already; an output is never replaced"};
}

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() != fs::file_type::not_found && !error;
}

void flush_to_disk(const fs::path& path) {
  const FileDescriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.is_open() && (::fsync(file.get()) == 0 || errno == EINVAL))
    return;  // EINVAL: nothing to flush here
  throw os_error(ErrorKind::device, "cannot flush " + path.string() + " to disk", errno);
}

namespace {

void flush_tree(const fs::path& directory) {
  for (const auto& entry : fs::directory_iterator{directory}) {
    if (entry.is_symlink()) continue;
    if (entry.is_directory())
      flush_tree(entry.path());
    else
      flush_to_disk(entry.path());
  }
  flush_to_disk(directory);
}

/// 0, or the error number; EEXIST or ENOTEMPTY if `to` is there.
int rename_without_replacing(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  // Some network file systems lack the flag. mkdir claims the name; rename replaces only empty directories.
  if (::mkdir(to.c_str(), 0777) != 0) return errno;
  if (::rename(from.c_str(), to.c_str()) == 0) return 0;
  const int error = errno;
  ::rmdir(to.c_str());
  return error;
}

void flush_parent(const fs::path& path) {
  const FileDescriptor parent{::open(path.parent_path().c_str(), O_RDONLY | O_CLOEXEC)};
  if (parent.is_open()) ::fsync(parent.get());  // it is published, whether or not a power cut would undo that
}

void refuse(int error, const fs::path& from, const fs::path& to) {
  if (error == 0) return;
  if (error == EEXIST || error == ENOTEMPTY) throw already_there(to);
  throw os_error(ErrorKind::device, "cannot rename " + from.string() + " to " + to.string(), error);
}

}  // namespace

void publish_directory(const fs::path& from, const fs::path& to) {
  try {
    flush_tree(from);
  } catch (const fs::filesystem_error& error) {
    throw os_error(ErrorKind::device, "cannot list " + from.string(), error.code().value());
  }
  refuse(rename_without_replacing(from, to), from, to);
  flush_parent(to);
}

void publish_file(const fs::path& from, const fs::path& to) {
  flush_to_disk(from);
  // A second name first: link, unlike rename, never replaces.
  refuse(::link(from.c_str(), to.c_str()) == 0 ? 0 : errno, from, to);
  ::unlink(from.c_str());
  flush_parent(to);
}

}  // namespace mpk
