// The program as a user meets it: exit codes, messages, JSON.

#include <cstdlib>
#include <sys/wait.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "packer/manifest.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"
#include "tests/support/tiny_model.hpp"

using namespace mpk;
namespace fs = std::filesystem;

namespace {

struct Outcome {
  int code = 0;
  std::string out, err;
};

Outcome run(const test::ScratchDir& dir, const std::string& arguments) {
  const std::string command = fmt::format("{} {} >{} 2>{}", MPK_PROGRAM, arguments, (dir / "stdout").string(),
                                          (dir / "stderr").string());
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), test::read_file(dir / "stdout"),
          test::read_file(dir / "stderr")};
}

}  // namespace

TEST_CASE("quantize, verify, eval and inspect end to end", "[command-line]") {
  const test::ScratchDir dir;
  test::write_tiny_model(dir / "float");
  test::write_tokens(dir / "tokens.jsonl", 8 * 16);
  const std::string model = (dir / "float").string(), out = (dir / "out").string(),
                    tokens = (dir / "tokens.jsonl").string();

  const Outcome quantize =
      run(dir,
          fmt::format("quantize {} -o {} --group-size 64 --calibration {} --samples 8 --seq-len 16 --eval {} "
                      "--device cpu --json {}/q.json",
                      model, out, tokens, tokens, dir.path().string()));
  CAPTURE(quantize.err);
  REQUIRE(quantize.code == 0);
  REQUIRE(quantize.out.find(": ok") != std::string::npos);
  const auto report = nlohmann::json::parse(test::read_file(dir / "q.json"));
  REQUIRE(report.at("verify").at("marlin").at("passed") == true);
  REQUIRE(report.at("quantize").at("layers").size() == 14);
  REQUIRE(report.at("quantize").at("artifacts").at(0).at("directory") == out);

  const Outcome eval = run(dir, fmt::format("eval {} --text {} --seq-len 16 --json -", out, tokens));
  REQUIRE(eval.code == 0);
  REQUIRE(nlohmann::json::parse(eval.out).at("perplexity") == report.at("perplexity").at("marlin"));

  const Outcome verify =
      run(dir, fmt::format("verify {} --against {} --device cpu --m 1,2 --json -", out, model));
  CAPTURE(verify.err);
  REQUIRE(verify.code == 0);
  REQUIRE(nlohmann::json::parse(verify.out).at("passed") == true);

  const Outcome inspect = run(dir, fmt::format("inspect {} --json -", out));
  REQUIRE(inspect.code == 0);
  REQUIRE(nlohmann::json::parse(inspect.out).at("tensors").size() == read_manifest(out).tensors.size());

  std::string bytes = test::read_file(dir / "out" / "model.safetensors");
  bytes[bytes.size() - 100] = static_cast<char>(bytes[bytes.size() - 100] ^ 4);
  test::write_file(dir / "out" / "model.safetensors", bytes);
  const Outcome red = run(dir, fmt::format("verify {} --device cpu", out));
  REQUIRE(red.code == 5);
  REQUIRE(red.out.find("SHA-256 differs") != std::string::npos);
}

TEST_CASE("each kind of failure has its exit code and one clear message", "[command-line]") {
  const test::ScratchDir dir;
  test::write_tiny_model(dir / "float");
  test::write_tokens(dir / "tokens.jsonl", 8 * 16);
  const std::string model = (dir / "float").string(), out = (dir / "out").string(),
                    tokens = (dir / "tokens.jsonl").string();
  struct Case {
    std::string arguments;
    int code;
    std::string says;
  };
  const Case cases[] = {
      {"", 2, "subcommand"},
      {"quantise", 2, ""},
      {"quantize " + model, 2, "--output"},
      {"quantize " + model + " -o " + out, 2, "--calibration"},
      {"quantize " + model + " -o " + out + " --bits 5 --method rtn", 2, "--bits"},
      {"quantize " + model + " -o " + out + " --layer x --method rtn", 2, "REGEX=bits"},
      {"quantize " + (dir / "nothing").string() + " -o " + out + " --method rtn", 3, "nothing"},
      {"quantize " + model + " -o " + out + " --calibration " + (dir / "no.txt").string(), 3, "no.txt"},
      {"quantize " + model + " -o " + out + " --format marlin-original --method rtn", 4, "marlin-original"},
      {"quantize " + model + " -o " + (dir / "a" / "b").string() + " --method rtn", 6, ""},
      {"verify " + model, 3, "marlin_pack.json"},
      {"verify", 2, "artifact"},
      {"eval " + model + " --text " + (dir / "no.txt").string(), 3, "no.txt"},
      {"inspect " + (dir / "tokens.jsonl").string(), 3, "tokens.jsonl"},
  };
  for (const Case& c : cases) {
    const Outcome outcome = run(dir, c.arguments);
    CAPTURE(c.arguments, outcome.out, outcome.err);
    REQUIRE(outcome.code == c.code);
    REQUIRE_FALSE(outcome.err.empty());
    REQUIRE((outcome.out + outcome.err).find(c.says) != std::string::npos);
    REQUIRE_FALSE(fs::exists(out));
  }
}

TEST_CASE("help and version succeed", "[command-line]") {
  const test::ScratchDir dir;
  REQUIRE(run(dir, "--version").code == 0);
  REQUIRE(run(dir, "quantize --help").code == 0);
}
