// All or nothing, whoever stops us.

#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "packer/io/checkpoint.hpp"
#include "packer/io/checkpoint_writer.hpp"
#include "tests/io/container.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;
namespace fs = std::filesystem;

namespace {

constexpr std::int64_t kTensorBytes = 1 << 16;
constexpr const char* kMarker = ".out.marlin-pack-";

std::vector<std::string> entries(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator{directory})
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Eight tensors in four shards; the whole way from nothing to published.
void write_checkpoint(const fs::path& target) {
  StagingDirectory staging{target};
  std::vector<TensorSpec> specs;
  for (int i = 0; i < 8; ++i) specs.push_back({"t" + std::to_string(i), DType::U8, {kTensorBytes}});
  const std::vector<std::byte> data(kTensorBytes, std::byte{7});
  CheckpointWriter writer{staging.path(), specs, 2 * kTensorBytes};
  for (const auto& spec : specs) writer.write(spec.name, {spec.dtype, spec.shape, data});
  writer.finish();
  staging.publish();
}

/// Catch2 reports the same signals; these tests are about what happens in a program that does not.
void default_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_DFL);
}

/// Runs `body` in a child that never returns into the test program.
template <class F>
pid_t in_child(F&& body) {
  default_signals();
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      body();
    } catch (...) {
      ::_exit(99);
    }
    ::_exit(0);
  }
  return child;
}

int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

/// A child holds a staging directory with a file in it and a sub-directory; returns once it does.
pid_t child_with_staging(const fs::path& target, bool ignore_hangup = false) {
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = in_child([&] {
    if (ignore_hangup) std::signal(SIGHUP, SIG_IGN);
    const StagingDirectory staging{target};
    for (int i = 0; i < 300; ++i) write_file(staging.path() / ("file" + std::to_string(i)), "half");
    write_file(staging.path() / "sub" / "deeper" / "file", "half");
    if (::write(ready[1], "x", 1) != 1) ::_exit(98);
    for (;;) ::pause();
  });
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  ::close(ready[0]);
  ::close(ready[1]);
  return child;
}

}  // namespace

TEST_CASE("published, the directory stands at its place with everything in it", "[io][staging]") {
  const ScratchDir dir;
  {
    StagingDirectory staging{dir / "out/"};
    CHECK(staging.path().parent_path() == dir.path());
    CHECK(staging.path().filename().string().starts_with(kMarker));
    write_file(staging.path() / "sub" / "file", "content");
    CHECK_FALSE(fs::exists(dir / "out"));
    staging.publish();
    require_error(ErrorKind::mismatch, {"twice"}, [&] { staging.publish(); });
  }
  CHECK(entries(dir.path()) == std::vector<std::string>{"out"});
  CHECK(read_file(dir / "out" / "sub" / "file") == "content");

  // Readable for whom the user's umask lets read, like any directory made by hand.
  fs::create_directory(dir / "reference");
  CHECK(fs::status(dir / "out").permissions() == fs::status(dir / "reference").permissions());
}

TEST_CASE("not published, nothing stays", "[io][staging]") {
  const ScratchDir dir;
  try {
    const StagingDirectory staging{dir / "out"};
    write_file(staging.path() / "sub" / "file", "content");
    throw Error{ErrorKind::bad_input, "half way"};
  } catch (const Error&) {
  }
  CHECK(fs::is_empty(dir.path()));
}

TEST_CASE("an existing output is refused before any work", "[io][staging]") {
  const ScratchDir dir;
  SECTION("a directory") {
    fs::create_directory(dir / "out");
  }
  SECTION("a file") {
    write_file(dir / "out", "x");
  }
  SECTION("a link to nowhere") {
    fs::create_symlink("gone", dir / "out");
  }
  require_error(ErrorKind::usage, {"out exists"}, [&] { StagingDirectory{dir / "out"}; });
  CHECK(entries(dir.path()) == std::vector<std::string>{"out"});
}

TEST_CASE("an output that appeared meanwhile is not replaced", "[io][staging]") {
  const ScratchDir dir;
  {
    StagingDirectory staging{dir / "out"};
    write_file(staging.path() / "mine", "x");
    SECTION("by an empty directory") {
      fs::create_directory(dir / "out");
    }
    SECTION("by a full one") {
      write_file(dir / "out" / "theirs", "y");
    }
    SECTION("by a file") {
      write_file(dir / "out", "y");
    }
    require_error(ErrorKind::usage, {"out exists"}, [&] { staging.publish(); });
    CHECK_FALSE(fs::exists(dir / "out" / "mine"));
  }
  CHECK(entries(dir.path()) == std::vector<std::string>{"out"});
}

TEST_CASE("impossible places are refused", "[io][staging]") {
  const ScratchDir dir;
  require_error(ErrorKind::device, {"absent", "No such file"},
                [&] { StagingDirectory{dir / "absent" / "out"}; });
  require_error(ErrorKind::device, {"too long"}, [&] { StagingDirectory{dir / std::string(250, 'x')}; });
  require_error(ErrorKind::usage, {"no name"}, [] { StagingDirectory{""}; });
  require_error(ErrorKind::usage, {}, [] { StagingDirectory{"/"}; });
  if (::geteuid() == 0) MPK_SKIP("root writes anywhere");
  fs::permissions(dir.path(), fs::perms::owner_read | fs::perms::owner_exec);
  const auto error = error_of([&] { StagingDirectory{dir / "out"}; });
  fs::permissions(dir.path(), fs::perms::owner_all);
  REQUIRE(error);
  CHECK(error->kind() == ErrorKind::device);
  CHECK(std::string{error->what()}.find("Permission denied") != std::string::npos);
}

TEST_CASE("the signals that ask to stop leave nothing behind", "[io][staging]") {
  const int signal = GENERATE(SIGINT, SIGTERM, SIGHUP);
  CAPTURE(signal);
  const ScratchDir dir;
  const pid_t child = child_with_staging(dir / "out");
  CHECK(entries(dir.path()).size() == 1);
  ::kill(child, signal);
  const int status = wait_for(child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == signal);  // a shell sees why it ended
  CHECK(entries(dir.path()).empty());
}

TEST_CASE("after SIGKILL only a hidden directory stays", "[io][staging]") {
  const ScratchDir dir;
  const pid_t child = child_with_staging(dir / "out");
  ::kill(child, SIGKILL);
  wait_for(child);
  const auto left = entries(dir.path());
  REQUIRE(left.size() == 1);
  CHECK(left.front().starts_with(kMarker));
  write_checkpoint(dir / "out");  // and is in nobody's way
  CHECK(Checkpoint::open(dir / "out").names().size() == 8);
}

TEST_CASE("an ignored hang-up stays ignored", "[io][staging]") {
  const ScratchDir dir;
  const pid_t child = child_with_staging(dir / "out", true);
  ::kill(child, SIGHUP);
  std::this_thread::sleep_for(std::chrono::milliseconds{50});
  CHECK(::waitpid(child, nullptr, WNOHANG) == 0);
  CHECK(entries(dir.path()).size() == 1);
  ::kill(child, SIGTERM);
  wait_for(child);
  CHECK(entries(dir.path()).empty());
}

TEST_CASE("a forked child leaves its parent's directory alone", "[io][staging]") {
  default_signals();
  const ScratchDir dir;
  StagingDirectory staging{dir / "out"};
  write_file(staging.path() / "file", "x");
  const pid_t child = ::fork();
  if (child == 0) {
    ::raise(SIGTERM);  // runs the inherited handler
    ::_exit(0);
  }
  CHECK(WIFSIGNALED(wait_for(child)));
  CHECK(fs::exists(staging.path() / "file"));
}

TEST_CASE("afterwards the signals do what they did before", "[io][staging]") {
  default_signals();
  std::signal(SIGTERM, [](int) {});
  struct sigaction before {
  }, during{}, after{};
  ::sigaction(SIGTERM, nullptr, &before);
  const ScratchDir dir;
  {
    const StagingDirectory a{dir / "a"};
    { const StagingDirectory b{dir / "b"}; }
    ::sigaction(SIGTERM, nullptr, &during);
  }
  ::sigaction(SIGTERM, nullptr, &after);
  CHECK(during.sa_handler != before.sa_handler);
  CHECK(after.sa_handler == before.sa_handler);
}

TEST_CASE("killed at any moment: the output is complete or absent", "[io][staging]") {
  const int signal = GENERATE(SIGKILL, SIGTERM);
  CAPTURE(signal);
  std::mt19937 random{mpk::test::seed()};
  int num_complete = 0;
  constexpr int kRounds = 40;
  for (int round = 0; round < kRounds; ++round) {
    const ScratchDir dir;
    const pid_t child = in_child([&] { write_checkpoint(dir / "out"); });
    std::this_thread::sleep_for(
        std::chrono::microseconds{random() % (1000u * static_cast<unsigned>(round + 1))});
    ::kill(child, signal);
    const int status = wait_for(child);
    CAPTURE(round, status);
    if (fs::exists(dir / "out")) {
      ++num_complete;
      const auto checkpoint = Checkpoint::open(dir / "out");
      REQUIRE(checkpoint.names().size() == 8);
      for (const auto& name : checkpoint.names())
        REQUIRE(text_of(checkpoint.tensor(name).data) == std::string(kTensorBytes, '\7'));
    }
    if (signal == SIGTERM)
      for (const auto& name : entries(dir.path())) REQUIRE(name == "out");
  }
  UNSCOPED_INFO(num_complete << " of " << kRounds << " were complete");
  SUCCEED();
}
