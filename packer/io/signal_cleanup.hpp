#pragma once
// Directories that must not survive SIGINT, SIGTERM or SIGHUP.

#include <csignal>
#include <filesystem>

namespace mpk {

/// While this object lives, each of the three signals removes the directory before it does what it did before
/// (as a rule: ends the process, with the status that belongs to the signal). A signal that was ignored, as
/// nohup ignores SIGHUP, stays ignored. The handler makes system calls only (getdents64, unlinkat), no
/// library call that could wait for a lock, so it may interrupt anything; a forked child does not remove what
/// belongs to its parent.
class SignalCleanup {
 public:
  /// Throws Error{unsupported} for a path longer than PATH_MAX or more directories at once than there are
  /// slots.
  explicit SignalCleanup(const std::filesystem::path& absolute_path);
  ~SignalCleanup();
  SignalCleanup(const SignalCleanup&) = delete;
  SignalCleanup& operator=(const SignalCleanup&) = delete;

 private:
  int slot_idx_ = -1;
};

/// Holds the three signals back from the calling thread while something is created and registered.
class SignalsHeld {
 public:
  SignalsHeld();
  ~SignalsHeld();
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

 private:
  sigset_t before_;
};

}  // namespace mpk
