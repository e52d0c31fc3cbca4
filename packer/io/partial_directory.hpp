#pragma once
// Work that may be interrupted and go on later.

#include <filesystem>
#include <memory>
#include <mutex>

#include "packer/io/file_descriptor.hpp"

namespace mpk {

class SignalCleanup;

/// NAME.partial beside NAME, with a journal and the result so far. It is one process's at a time. Until
/// keep() it goes with this object and with SIGINT, SIGTERM, SIGHUP, as a StagingDirectory does; from then on
/// it outlives both, and another run finds it.
class PartialDirectory {
 public:
  /// `restart`: what an earlier run left is thrown away. Throws Error{usage} if `final_path` exists, if
  /// another process works on it, or if NAME.partial is something else; Error{device} if the system fails.
  PartialDirectory(const std::filesystem::path& final_path, bool restart);
  ~PartialDirectory();
  PartialDirectory(const PartialDirectory&) = delete;
  PartialDirectory& operator=(const PartialDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path journal() const { return path_ / "journal"; }
  /// What publish() renames; nobody has created it yet in a new directory.
  std::filesystem::path result() const { return path_ / "result"; }

  // From any thread.

  /// Does nothing after discard().
  void keep();
  bool is_kept() const;
  /// It goes after all, with this object.
  void discard();
  /// Empties it, the journal excepted.
  void remove_result() const;
  /// Flushes result() to disk, renames it to its final name and removes the rest.
  void publish();

 private:
  void create_or_open();
  void refuse_strangers() const;
  void lock();

  std::filesystem::path final_path_, path_;
  FileDescriptor lock_;
  mutable std::mutex mutex_;  ///< guards what follows
  std::unique_ptr<SignalCleanup> cleanup_;
  bool kept_ = false, discarded_ = false;
};

}  // namespace mpk
