// A quantize that was interrupted and then repeated is one that was left alone.

#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <stdexcept>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/partial_directory.hpp"
#include "tests/cli/quantize_bench.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/errors.hpp"
#include "tests/support/family_model.hpp"

using namespace mpk;
using test::hashes;
namespace fs = std::filesystem;

namespace {

constexpr std::int64_t kLayers = 4;

/// What a power cut would be, were it an exception.
struct Interruption : std::runtime_error {
  Interruption() : std::runtime_error{"interrupted"} {}
};

std::int64_t lines_of(const fs::path& file) {
  if (!fs::exists(file)) return 0;
  const std::string text = test::read_file(file);
  return std::count(text.begin(), text.end(), '\n');
}

/// Waits for others, not for ever.
template <class Condition>
bool wait_until(Condition condition) {
  for (int i = 0; i < 20'000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds{1});
  return condition();
}

struct Bench : test::QuantizeBench {
  explicit Bench(const test::TinyModel& model = {.layers = kLayers}) : QuantizeBench(model) {
    job.recipe.scheme.group_size = GroupSize{32};
    job.max_shard_bytes = 100'000;
    whole = hashes_of_run("whole");
    job.destination = dir / "out";
  }
  std::map<std::string, std::string> hashes_of_run(const char* name) {
    job.destination = dir / name;
    fs::remove_all(job.destination);
    run_quantize(job);
    return hashes(job.destination);
  }
  fs::path partial() const { return dir / "out.partial"; }
  /// Stops in front of layer `layer`, when the background has finished those before it.
  void interrupt_before(std::int64_t layer) {
    const auto stop = [&](const std::string& stage, std::int64_t done, std::int64_t, const std::string&) {
      if (stage != "quantize" || done != layer) return;
      REQUIRE(wait_until([&] { return lines_of(partial() / "journal") == 2 + layer; }));
      throw Interruption{};
    };
    REQUIRE_THROWS_AS(run_quantize(job, {}, stop), Interruption);
    REQUIRE_FALSE(fs::exists(job.destination));
    REQUIRE(fs::exists(partial()));
  }
  void require_resumed_after(std::int64_t layers) {
    const QuantizeReport report = run_quantize(job);
    REQUIRE(report.resumed_layers == layers);
    REQUIRE(report.layers.size() == 7 * kLayers);
    REQUIRE(hashes(job.destination) == whole);
    REQUIRE_FALSE(fs::exists(partial()));
  }
  std::string refusal(ErrorKind kind) {
    const auto before = hashes(partial());
    const Error error = test::error_of([&] { run_quantize(job); }).value();
    CAPTURE(error.what());
    REQUIRE(error.kind() == kind);
    REQUIRE(hashes(partial()) == before);
    return error.what();
  }

  std::map<std::string, std::string> whole;
};

}  // namespace

TEST_CASE("an interrupted run goes on after its last finished layer, to the same bytes", "[resume]") {
  Bench bench;
  const std::string recipe = GENERATE("gptq", "whole recipe", "awq-gptq", "rtn");
  CAPTURE(recipe);
  bench.use(recipe == "whole recipe" ? "gptq" : recipe);
  bench.job.true_sequential = recipe == "whole recipe";
  // After awq's fold, too: the float model goes through the folded layer.
  bench.job.target_correction = recipe == "gptq" ? 0 : 0.5;
  bench.job.formats = {weight_format_named("marlin"), weight_format_named("gptq")};
  bench.whole = bench.hashes_of_run("whole");
  bench.job.destination = bench.dir / "out";

  bench.interrupt_before(1);
  bench.interrupt_before(3);  // a run that goes on can be interrupted as well
  bench.require_resumed_after(3);
}

TEST_CASE("layers with experts, and with norms of their own, are run again as they were", "[resume]") {
  test::TinyModel model = test::family_model(
      GENERATE("MixtralForCausalLM", "Gemma2ForCausalLM", "Phi3ForCausalLM", "DeepseekV3ForCausalLM"));
  model.layers = kLayers;
  CAPTURE(model.architecture);
  Bench bench{model};
  bench.use("awq-gptq");
  bench.job.true_sequential = true;
  bench.job.target_correction = 0.5;
  bench.whole = bench.hashes_of_run("whole");
  bench.job.destination = bench.dir / "out";
  bench.interrupt_before(2);
  const QuantizeReport report = run_quantize(bench.job);
  REQUIRE(report.resumed_layers == 2);
  REQUIRE(hashes(bench.job.destination) == bench.whole);
}

TEST_CASE("a proof that could not run is repeated without solving again", "[resume]") {
  Bench bench;
  const auto fails = [](const QuantizeReport&) { throw Error{ErrorKind::device, "the GPU is busy"}; };
  const Error error = test::error_of([&] { run_quantize(bench.job, fails); }).value();
  REQUIRE(std::string{error.what()}.find("out.partial: the same command goes on") != std::string::npos);
  REQUIRE_FALSE(fs::exists(bench.job.destination));
  bench.require_resumed_after(kLayers);
}

TEST_CASE("another job is refused with what differs, unless it begins anew", "[resume]") {
  Bench bench;
  bench.interrupt_before(2);
  SECTION("another recipe") {
    bench.job.options.damp = 0.5;
    const std::string text = bench.refusal(ErrorKind::usage);
    REQUIRE(text.find("recipe/damp: 0.01 then, 0.5 now") != std::string::npos);
    REQUIRE(text.find("--restart") != std::string::npos);
    bench.whole = bench.hashes_of_run("whole");
    bench.job.destination = bench.dir / "out";
    bench.job.restart = true;
    bench.require_resumed_after(0);
  }
  SECTION("another format") {
    bench.job.formats = {weight_format_named("gptq")};
    REQUIRE(bench.refusal(ErrorKind::usage).find("formats/0: \"marlin\" then, \"gptq\" now") !=
            std::string::npos);
  }
  SECTION("other tokens in the same file") {
    test::write_tokens(bench.job.calibration, 16 * 32, 96, 8);
    REQUIRE(bench.refusal(ErrorKind::usage).find("calibration_tokens") != std::string::npos);
  }
  SECTION("another source") {
    fs::remove_all(bench.job.source);
    test::write_tiny_model(bench.job.source, {.layers = kLayers, .seed = 2});
    REQUIRE(bench.refusal(ErrorKind::usage).find("source/model.safetensors/modified") != std::string::npos);
  }
  SECTION("the same, in other words") {
    bench.job.source = bench.dir / "." / "float";
    bench.require_resumed_after(2);
  }
}

TEST_CASE("what stands in the partial directory is not taken on trust", "[resume]") {
  Bench bench;
  bench.interrupt_before(2);
  const fs::path journal = bench.partial() / "journal";
  SECTION("a journal line that was cut off was never written") {
    fs::resize_file(journal, fs::file_size(journal) - 3);
    bench.require_resumed_after(1);
  }
  SECTION("a journal line that was changed, and what follows it, neither") {
    std::string text = test::read_file(journal);
    const auto second = text.find('\n') + 100;
    text[second] = text[second] == '0' ? '1' : '0';
    test::write_file(journal, text);
    bench.require_resumed_after(0);
  }
  SECTION("bytes that are not those that were written") {
    const std::string name = hashes(bench.partial() / "result").begin()->first;
    const fs::path shard = bench.partial() / "result" / name;
    std::string bytes = test::read_file(shard);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    test::write_file(shard, bytes);
    const std::string text = bench.refusal(ErrorKind::mismatch);
    REQUIRE(text.find(name + " are not those that were written") != std::string::npos);
    bench.job.restart = true;
    bench.require_resumed_after(0);
  }
  SECTION("what finish() had begun to write") {
    test::write_file(bench.partial() / "result" / "config.json", "{}");
    bench.require_resumed_after(2);
  }
}

TEST_CASE("a partial directory belongs to one process, and to marlin-pack", "[resume]") {
  Bench bench;
  SECTION("another process works there") {
    const PartialDirectory other{bench.job.destination, false};
    REQUIRE(test::error_of([&] { run_quantize(bench.job); }).value().kind() == ErrorKind::usage);
  }
  SECTION("it is something else") {
    test::write_file(bench.partial() / "thesis.tex", "years of work");
    bench.job.restart = true;
    REQUIRE(bench.refusal(ErrorKind::usage).find("is not what an interrupted marlin-pack left") !=
            std::string::npos);
  }
  SECTION("the result has been published, and the rest was not removed any more") {
    run_quantize(bench.job);
    test::write_file(bench.partial() / "journal", "");
    REQUIRE(test::error_of([&] { run_quantize(bench.job); }).value().kind() == ErrorKind::usage);
    REQUIRE_FALSE(fs::exists(bench.partial()));
    REQUIRE(hashes(bench.job.destination) == bench.whole);
  }
}

namespace {

pid_t start(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child != 0) return child;
  const int nothing = ::open("/dev/null", O_RDWR);
  ::dup2(nothing, 1);
  ::dup2(nothing, 2);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

/// Its exit code, or 128 and the signal.
int status_of(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

TEST_CASE("kill -9, and SIGINT after the first layer, leave what the same command goes on with", "[resume]") {
  test::ScratchDir dir;
  test::write_tiny_model(dir / "float", {.layers = 6});
  test::write_tokens(dir / "tokens.jsonl", 16 * 32);
  const auto command = [&](const char* out) {
    return std::vector<std::string>{MPK_PROGRAM,
                                    "quantize",
                                    (dir / "float").string(),
                                    "-o",
                                    (dir / out).string(),
                                    "--group-size",
                                    "32",
                                    "--calibration",
                                    (dir / "tokens.jsonl").string(),
                                    "--samples",
                                    "16",
                                    "--seq-len",
                                    "32",
                                    "--device",
                                    "cpu"};
  };
  REQUIRE(status_of(start(command("whole"))) == 0);
  const auto whole = hashes(dir / "whole");
  const int signal = GENERATE(SIGKILL, SIGINT);
  for (const std::int64_t lines : {2, 4, 6}) {
    CAPTURE(signal, lines);
    const pid_t child = start(command("out"));
    REQUIRE(wait_until(
        [&] { return lines_of(dir / "out.partial" / "journal") >= lines || fs::exists(dir / "out"); }));
    ::kill(child, signal);
    const int status = status_of(child);
    REQUIRE((status == 128 + signal || status == 0));
    if (status != 0) REQUIRE_FALSE(fs::exists(dir / "out"));
    if (status != 0) REQUIRE(fs::exists(dir / "out.partial"));
    if (status != 0) REQUIRE(status_of(start(command("out"))) == 0);
    REQUIRE(hashes(dir / "out") == whole);
    REQUIRE_FALSE(fs::exists(dir / "out.partial"));
    fs::remove_all(dir / "out");
  }
}
