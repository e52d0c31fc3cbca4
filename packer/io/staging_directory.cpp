#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <random>
#include <string>
#include <sys/stat.h>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "packer/io/checkpoint_writer.hpp"
#include "packer/io/file_descriptor.hpp"
#include "packer/io/signal_cleanup.hpp"

namespace mpk {

namespace {

namespace fs = std::filesystem;

/// Absolute and without trailing slash, so that neither chdir nor "out/" changes what it means.
fs::path normal(const fs::path& path) {
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

/// mkdtemp would make it private (0700), and the published directory with it; mkdir honours umask and ACLs.
fs::path make_beside(const fs::path& final_path) {
  static constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::random_device random;
  std::uniform_int_distribution<int> letter{0, sizeof kLetters - 2};
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::string name = fmt::format(".{}.marlin-pack-", final_path.filename().string());
    for (int i = 0; i < 6; ++i) name += kLetters[letter(random)];
    auto path = final_path.parent_path() / name;
    if (::mkdir(path.c_str(), 0777) == 0) return path;
    if (errno != EEXIST)
      throw os_error(ErrorKind::device, "cannot create a directory in " + final_path.parent_path().string(),
                     errno);
  }
  throw Error{ErrorKind::device, "no free name for a directory in " + final_path.parent_path().string()};
}

void flush(const fs::path& path) {
  const FileDescriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.is_open() && (::fsync(file.get()) == 0 || errno == EINVAL))
    return;  // EINVAL: nothing to flush here
  throw os_error(ErrorKind::device, "cannot flush " + path.string() + " to disk", errno);
}

void flush_tree(const fs::path& directory) {
  for (const auto& entry : fs::directory_iterator{directory}) {
    if (entry.is_symlink()) continue;
    if (entry.is_directory())
      flush_tree(entry.path());
    else
      flush(entry.path());
  }
  flush(directory);
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

}  // namespace

StagingDirectory::StagingDirectory(fs::path final_path) : final_path_{normal(final_path)} {
  std::error_code error;
  if (fs::symlink_status(final_path_, error).type() != fs::file_type::not_found && !error)
    throw already_there(final_path_);
  const SignalsHeld held;  // another thread may still take one; then an empty hidden directory stays
  path_ = make_beside(final_path_);
  try {
    cleanup_ = std::make_unique<SignalCleanup>(path_);
  } catch (...) {
    ::rmdir(path_.c_str());
    throw;
  }
}

StagingDirectory::~StagingDirectory() {
  if (published_) return;
  std::error_code ignored;  // nothing better to do, and the name says what it is
  fs::remove_all(path_, ignored);
}

void StagingDirectory::publish() {
  if (published_) throw Error{ErrorKind::mismatch, final_path_.string() + " is published twice"};
  try {
    flush_tree(path_);
  } catch (const fs::filesystem_error& error) {
    throw os_error(ErrorKind::device, "cannot list " + path_.string(), error.code().value());
  }
  if (const int error = rename_without_replacing(path_, final_path_)) {
    if (error == EEXIST || error == ENOTEMPTY) throw already_there(final_path_);
    throw os_error(ErrorKind::device, "cannot rename " + path_.string() + " to " + final_path_.string(),
                   error);
  }
  published_ = true;
  cleanup_.reset();
  const FileDescriptor parent{::open(final_path_.parent_path().c_str(), O_RDONLY | O_CLOEXEC)};
  if (parent.is_open()) ::fsync(parent.get());  // it is published, whether or not a power cut would undo that
}

}  // namespace mpk
