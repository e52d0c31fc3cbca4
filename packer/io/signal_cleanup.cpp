#include "packer/io/signal_cleanup.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <limits.h>
#include <mutex>
#include <string>
#include <sys/syscall.h>
#include <unistd.h>

#include "packer/format/error.hpp"

namespace mpk {

namespace {

// A handler can only read memory that is always valid: fixed slots, released by one atomic.
struct Slot {
  std::atomic<pid_t> owner{0};  ///< 0: free, -1: being filled
  char path[PATH_MAX];
};
static_assert(std::atomic<pid_t>::is_always_lock_free, "the handler must not wait for a lock");
constexpr int kNumSlots = 16;
Slot g_slots[kNumSlots];

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP};
struct sigaction g_previous[kSignals.size()];

/// What getdents64 fills a buffer with; the C library declares it only behind readdir, which allocates.
struct DirectoryEntry {
  std::uint64_t inode;
  std::int64_t next;
  std::uint16_t length;
  std::uint8_t type;
  char name[1];
};

void remove_tree(int parent, const char* name, int depth) {
  constexpr int kMaxDepth = 8;   // a checkpoint is flat; this bounds the stack
  constexpr int kMaxPasses = 8;  // other threads may still create files
  for (int pass = 0; pass < kMaxPasses; ++pass) {
    const int directory = ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (directory < 0) return;
    alignas(DirectoryEntry) char buffer[2048];
    for (;;) {
      const long filled = ::syscall(SYS_getdents64, directory, buffer, sizeof buffer);
      if (filled <= 0) break;
      for (long at = 0; at < filled;) {
        const auto* entry = reinterpret_cast<const DirectoryEntry*>(buffer + at);
        at += entry->length;
        const char* child = buffer + (at - entry->length) + offsetof(DirectoryEntry, name);
        if (std::strcmp(child, ".") == 0 || std::strcmp(child, "..") == 0) continue;
        if (::unlinkat(directory, child, 0) != 0 && errno == EISDIR && depth < kMaxDepth)
          remove_tree(directory, child, depth + 1);
      }
    }
    ::close(directory);
    if (::unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return;
  }
}

extern "C" void remove_and_reraise(int signal) {
  const int saved_errno = errno;
  const pid_t self = ::getpid();
  for (auto& slot : g_slots)
    if (slot.owner.load(std::memory_order_acquire) == self) remove_tree(AT_FDCWD, slot.path, 0);
  for (std::size_t i = 0; i < kSignals.size(); ++i)
    if (kSignals[i] == signal) ::sigaction(signal, &g_previous[i], nullptr);
  ::raise(signal);  // delivered when this handler returns
  errno = saved_errno;
}

// The handlers are there as long as there is something to remove.
std::mutex g_mutex;
int g_num_alive = 0;

void install_handlers() {
  const std::lock_guard lock{g_mutex};
  if (g_num_alive++ > 0) return;
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction ours {};
    ours.sa_handler = remove_and_reraise;
    for (const int signal : kSignals) sigaddset(&ours.sa_mask, signal);
    ::sigaction(kSignals[i], nullptr, &g_previous[i]);
    const bool is_ignored = (g_previous[i].sa_flags & SA_SIGINFO) == 0 && g_previous[i].sa_handler == SIG_IGN;
    if (!is_ignored) ::sigaction(kSignals[i], &ours, nullptr);
  }
}

void restore_handlers() {
  const std::lock_guard lock{g_mutex};
  if (--g_num_alive > 0) return;
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction current {};
    ::sigaction(kSignals[i], nullptr, &current);
    const bool is_ours = (current.sa_flags & SA_SIGINFO) == 0 && current.sa_handler == remove_and_reraise;
    if (is_ours) ::sigaction(kSignals[i], &g_previous[i], nullptr);
  }
}

/// Takes a free slot, or returns -1.
int take_slot(const std::string& path) {
  for (int i = 0; i < kNumSlots; ++i) {
    pid_t free = 0;
    if (!g_slots[i].owner.compare_exchange_strong(free, -1)) continue;
    std::memcpy(g_slots[i].path, path.c_str(), path.size() + 1);
    g_slots[i].owner.store(::getpid(), std::memory_order_release);
    return i;
  }
  return -1;
}

}  // namespace

SignalCleanup::SignalCleanup(const std::filesystem::path& absolute_path) {
  const std::string path = absolute_path.string();
  if (path.size() >= sizeof Slot::path) throw Error{ErrorKind::unsupported, "path too long: " + path};
  slot_idx_ = take_slot(path);
  if (slot_idx_ < 0) throw Error{ErrorKind::unsupported, "too many outputs at once"};
  install_handlers();
}

SignalsHeld::SignalsHeld() {
  sigset_t held;
  sigemptyset(&held);
  for (const int signal : kSignals) sigaddset(&held, signal);
  ::pthread_sigmask(SIG_BLOCK, &held, &before_);
}

SignalsHeld::~SignalsHeld() {
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

SignalCleanup::~SignalCleanup() {
  restore_handlers();
  g_slots[slot_idx_].owner.store(0, std::memory_order_release);
}

}  // namespace mpk
