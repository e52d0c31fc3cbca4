#include <cerrno>
#include <random>
#include <string>
#include <sys/stat.h>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "packer/io/checkpoint_writer.hpp"
#include "packer/io/file_descriptor.hpp"
#include "packer/io/publish.hpp"
#include "packer/io/signal_cleanup.hpp"

namespace mpk {

namespace {

namespace fs = std::filesystem;

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

}  // namespace

StagingDirectory::StagingDirectory(fs::path final_path) : final_path_{output_path(final_path)} {
  if (is_there(final_path_)) throw already_there(final_path_);
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
  publish_directory(path_, final_path_);
  published_ = true;
  cleanup_.reset();
}

}  // namespace mpk
