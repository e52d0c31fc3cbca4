#include "packer/io/partial_directory.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>

#include "packer/io/publish.hpp"
#include "packer/io/signal_cleanup.hpp"

namespace mpk {

namespace fs = std::filesystem;

PartialDirectory::PartialDirectory(const fs::path& final_path, bool restart)
    : final_path_{output_path(final_path)}, path_{final_path_.string() + ".partial"} {
  if (is_there(final_path_) && !is_there(path_)) throw already_there(final_path_);
  const SignalsHeld held;
  create_or_open();
  if (is_there(final_path_)) {
    // A run that ended between the two steps of publish() left a journal and nothing else.
    if (!is_there(result())) fs::remove_all(path_);
    throw already_there(final_path_);
  }
  std::error_code ignored;
  if (restart) {
    remove_result();
    fs::remove(journal(), ignored);
  }
  kept_ = is_there(journal());
  if (kept_) return;
  remove_result();
  cleanup_ = std::make_unique<SignalCleanup>(path_);
}

void PartialDirectory::create_or_open() {
  // The one who had it may have removed it between our mkdir and our lock: then once more.
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (::mkdir(path_.c_str(), 0777) != 0 && errno != EEXIST)
      throw os_error(ErrorKind::device, "cannot create " + path_.string(), errno);
    refuse_strangers();
    lock_ = FileDescriptor{::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)};
    if (!lock_.is_open() && errno == ENOENT) continue;
    if (!lock_.is_open()) throw os_error(ErrorKind::device, "cannot open " + path_.string(), errno);
    lock();
    struct stat ours {
    }, there{};
    if (::fstat(lock_.get(), &ours) == 0 && ::stat(path_.c_str(), &there) == 0 &&
        ours.st_ino == there.st_ino && ours.st_dev == there.st_dev)
      return;
  }
  throw Error{ErrorKind::device, path_.string() + " comes and goes"};
}

void PartialDirectory::lock() {
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0) return;
  if (errno == EWOULDBLOCK)
    throw Error{ErrorKind::usage,
                "another marlin-pack works in " + path_.string() + "; wait for it or choose another output"};
  throw os_error(ErrorKind::device, "cannot lock " + path_.string(), errno);
}

void PartialDirectory::refuse_strangers() const {
  std::error_code error;
  bool ours = fs::symlink_status(path_, error).type() == fs::file_type::directory;
  for (fs::directory_iterator entry{path_, error}; ours && !error && entry != fs::directory_iterator{};
       entry.increment(error))
    ours = entry->path() == journal() || entry->path() == result();
  if (!ours && !error)
    throw Error{ErrorKind::usage, path_.string() +
                                      " exists and is not what an interrupted marlin-pack left; it is needed "
                                      "while " +
                                      final_path_.filename().string() +
                                      " is made: move it away or choose another output"};
}

void PartialDirectory::keep() {
  const std::lock_guard lock{mutex_};
  if (discarded_) return;
  kept_ = true;
  cleanup_.reset();
}

bool PartialDirectory::is_kept() const {
  const std::lock_guard lock{mutex_};
  return kept_ && !discarded_;
}

void PartialDirectory::discard() {
  const std::lock_guard lock{mutex_};
  discarded_ = true;
}

void PartialDirectory::remove_result() const {
  std::error_code error;
  fs::remove_all(result(), error);
  if (error) throw os_error(ErrorKind::device, "cannot remove " + result().string(), error.value());
}

void PartialDirectory::publish() {
  publish_directory(result(), final_path_);
  discard();
}

PartialDirectory::~PartialDirectory() {
  if (is_kept()) return;
  std::error_code ignored;  // nothing better to do, and the name says what it is
  fs::remove_all(path_, ignored);
}

}  // namespace mpk
