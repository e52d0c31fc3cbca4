// Lines that are there after whatever happened, and directories that wait for another run.

#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

#include "packer/io/journal.hpp"
#include "packer/io/partial_directory.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/errors.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
namespace fs = std::filesystem;
using Lines = std::vector<std::string>;

TEST_CASE("a journal gives back the lines before the first that is damaged, and goes on behind them",
          "[journal]") {
  const test::ScratchDir dir;
  const fs::path file = dir / "journal";
  const Lines written{"{\"a\": 1}", "second", "third"};
  {
    Journal journal{file};
    REQUIRE(journal.lines().empty());
    for (const std::string& line : written) journal.append(line);
  }
  const std::string whole = test::read_file(file);
  REQUIRE(Journal{file}.lines() == written);
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    test::write_file(file, whole.substr(0, cut));
    std::size_t complete = 0;
    for (std::size_t i = 0; i < cut; ++i) complete += whole[i] == '\n';
    CAPTURE(cut);
    Lines expected(written.begin(), written.begin() + static_cast<std::ptrdiff_t>(complete));
    {
      Journal journal{file};
      REQUIRE(journal.lines() == expected);
      journal.append("next");
    }
    expected.emplace_back("next");
    REQUIRE(Journal{file}.lines() == expected);
  }
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    test::write_file(file, changed);
    const auto before = static_cast<std::size_t>(
        std::count(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
    CAPTURE(at);
    REQUIRE(Journal{file}.lines() ==
            Lines(written.begin(), written.begin() + static_cast<std::ptrdiff_t>(before)));
  }
}

TEST_CASE("a partial directory goes with its object until it is kept", "[journal]") {
  const test::ScratchDir dir;
  {
    const PartialDirectory partial{dir / "out", false};
    fs::create_directory(partial.result());
  }
  REQUIRE_FALSE(fs::exists(dir / "out.partial"));
  {
    PartialDirectory partial{dir / "out/", false};
    test::write_file(partial.journal(), "");
    test::write_file(partial.result() / "file", "content");
    partial.keep();
  }
  REQUIRE(test::read_file(dir / "out.partial" / "result" / "file") == "content");
  SECTION("and is found again") {
    PartialDirectory partial{dir / "out", false};
    REQUIRE(partial.is_kept());
    partial.publish();
    REQUIRE(test::read_file(dir / "out" / "file") == "content");
  }
  SECTION("unless one begins anew") {
    const PartialDirectory partial{dir / "out", true};
    REQUIRE_FALSE(fs::exists(partial.result()));
    REQUIRE_FALSE(fs::exists(partial.journal()));
  }
  SECTION("or gives up") {
    PartialDirectory partial{dir / "out", false};
    partial.discard();
    partial.keep();  // a thread that was late
    REQUIRE_FALSE(partial.is_kept());
  }
  SECTION("by one at a time") {
    const PartialDirectory partial{dir / "out", false};
    for (const bool restart : {false, true})
      REQUIRE(test::error_of([&] {
                PartialDirectory{dir / "out", restart};
              })
                  .value()
                  .kind() == ErrorKind::usage);
    REQUIRE(fs::exists(partial.result() / "file"));
    return;
  }
  REQUIRE_FALSE(fs::exists(dir / "out.partial"));
}

TEST_CASE("a signal removes a partial directory only before it is kept", "[journal]") {
  const bool kept = GENERATE(false, true);
  const test::ScratchDir dir;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    std::signal(signal, SIG_DFL);  // Catch2 reports it instead
    const pid_t child = ::fork();
    if (child == 0) {
      PartialDirectory partial{dir / "out", false};
      test::write_file(partial.result() / "file", "content");
      if (kept) partial.keep();
      ::raise(signal);
      ::_exit(99);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFSIGNALED(status));
    REQUIRE(WTERMSIG(status) == signal);
    REQUIRE(fs::exists(dir / "out.partial") == kept);
  }
}
