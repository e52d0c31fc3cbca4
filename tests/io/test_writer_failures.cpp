// A plan that is broken, and a system that cannot.

#include <csignal>
#include <sys/resource.h>
#include <unistd.h>

#include "packer/io/checkpoint_writer.hpp"
#include "packer/io/output_file.hpp"
#include "tests/io/container.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;
namespace fs = std::filesystem;

namespace {

/// While it lives no file can grow beyond `max_bytes`, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t max_bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const struct rlimit limit { max_bytes, before_.rlim_max };
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  struct rlimit before_ {};
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("a plan must make sense", "[io][writer]") {
  const ScratchDir dir;
  const auto refused = [&](ErrorKind kind, const std::vector<TensorSpec>& specs,
                           const std::vector<std::string>& parts) {
    require_error(kind, parts, [&] { CheckpointWriter(dir.path(), specs, 100); });
    CHECK(fs::is_empty(dir.path()));
  };
  refused(ErrorKind::bad_input, {{"a", DType::U8, {1}}, {"b", DType::U8, {1}}, {"a", DType::F32, {2}}},
          {"\"a\"", "twice"});
  refused(ErrorKind::bad_input, {{"__metadata__", DType::U8, {1}}}, {"__metadata__", "reserved"});
  refused(ErrorKind::bad_input, {{"a", DType::U8, {-1}}}, {"\"a\"", "negative"});
  refused(ErrorKind::bad_input, {{"a", DType::F4, {3}}}, {"\"a\"", "12 bits"});
  refused(ErrorKind::bad_input, {{"a", DType::U8, {std::int64_t{1} << 62, 4}}}, {"\"a\"", "overflows"});
  refused(ErrorKind::bad_input, {{"a\xff", DType::U8, {1}}}, {"UTF-8"});
  require_error(ErrorKind::usage, {"shard size"}, [&] { CheckpointWriter(dir.path(), {}, 0); });
}

TEST_CASE("what is written must be what was planned", "[io][writer]") {
  const ScratchDir dir;
  CheckpointWriter writer{dir.path(), {{"a", DType::F16, {2, 3}}, {"b", DType::U8, {4}}}, 100};
  const auto refused = [&](const std::string& name, const TensorView& tensor,
                           const std::vector<std::string>& parts) {
    require_error(ErrorKind::mismatch, parts, [&] { writer.write(name, tensor); });
  };
  const auto a = random_tensor(DType::F16, {2, 3}, 1), b = random_tensor(DType::U8, {4}, 2);
  refused("c", b.view(), {"without tensor \"c\""});
  refused("a", {DType::BF16, {2, 3}, a.data}, {"\"a\"", "F16 (2, 3)", "BF16 (2, 3)"});
  refused("a", {DType::F16, {3, 2}, a.data}, {"\"a\"", "(3, 2)"});
  refused("a", {DType::F16, {2, 3}, std::span{a.data}.first(11)}, {"\"a\"", "12 bytes", "got 11"});
  require_error(ErrorKind::mismatch, {"\"a\"", "not written yet"}, [&] { writer.sha256("a"); });
  require_error(ErrorKind::mismatch, {"\"x\""}, [&] { writer.sha256("x"); });
  require_error(ErrorKind::mismatch, {"\"x\""}, [&] { writer.shard_of("x"); });
  require_error(ErrorKind::mismatch, {"\"x\""}, [&] { writer.header_sha256("x"); });

  writer.write("a", a.view());
  refused("a", a.view(), {"\"a\"", "written twice"});
  require_error(ErrorKind::mismatch, {"1 of 2", "\"b\""}, [&] { writer.finish(); });
  writer.write("b", b.view());
  writer.finish();
  refused("b", b.view(), {"finished"});
  require_error(ErrorKind::mismatch, {"finished twice"}, [&] { writer.finish(); });
}

TEST_CASE("a writer replaces no file", "[io][writer]") {
  const ScratchDir dir;
  write_file(dir / "model.safetensors", "precious");
  require_error(ErrorKind::device, {"model.safetensors", "File exists"}, [&] {
    CheckpointWriter(dir.path(), {{"a", DType::U8, {1}}}, 100);
  });
  CHECK(read_file(dir / "model.safetensors") == "precious");
}

TEST_CASE("a directory that is not there", "[io][writer]") {
  const ScratchDir dir;
  require_error(ErrorKind::device, {"absent", "No such file"}, [&] {
    CheckpointWriter(dir / "absent", {{"a", DType::U8, {1}}}, 100);
  });
}

TEST_CASE("a full disk is found before the first tensor, and the bytes needed are told", "[io][writer]") {
  const ScratchDir dir;
  std::optional<Error> error;
  {
    const FileSizeLimit limit{8192};
    error = error_of([&] { CheckpointWriter(dir.path(), {{"a", DType::U8, {100'000}}}, 1'000'000); });
  }
  REQUIRE(error);
  const std::string what = error->what();
  INFO(what);
  CHECK(error->kind() == ErrorKind::device);
  CHECK(what.find("model.safetensors, which needs 100") != std::string::npos);
  CHECK(what.find("are free there") != std::string::npos);
}

TEST_CASE("a write that stops half way is an error", "[io][writer]") {
  const ScratchDir dir;
  const std::string content(100'000, 'x');
  auto file = OutputFile::create(dir / "grows", 0);  // nothing reserved, as where the file system cannot
  std::optional<Error> error;
  {
    const FileSizeLimit limit{8192};
    error = error_of([&] { file.write_at(0, bytes_of(content)); });
  }
  REQUIRE(error);
  CHECK(error->kind() == ErrorKind::device);
  CHECK(std::string{error->what()}.find("cannot write") != std::string::npos);
  CHECK(fs::file_size(dir / "grows") == 8192);
}

TEST_CASE("a file that cannot be created is an error", "[io][writer]") {
  const ScratchDir dir;
  require_error(ErrorKind::device, {"absent", "create"}, [&] { write_new_file(dir / "absent" / "f", "x"); });
  if (::geteuid() == 0) MPK_SKIP("root writes anywhere");
  fs::permissions(dir.path(), fs::perms::owner_read | fs::perms::owner_exec);
  const auto error = error_of([&] { write_new_file(dir / "f", "x"); });
  fs::permissions(dir.path(), fs::perms::owner_all);
  REQUIRE(error);
  CHECK(error->kind() == ErrorKind::device);
  CHECK(std::string{error->what()}.find("Permission denied") != std::string::npos);
}
