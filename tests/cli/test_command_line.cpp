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

TEST_CASE("a recipe file sets what the command line does not, and an artifact's own makes it again",
          "[command-line]") {
  const test::ScratchDir dir;
  test::write_tiny_model(dir / "float");
  test::write_tokens(dir / "tokens.jsonl", 8 * 16);
  test::write_file(dir / "recipe.json",
                   R"({"bits": 8, "group_size": 64, "signed_scales": false, "ignore": ["layers.0.*q_proj"],
                       "layer": ["down_proj=bits:4", "up_proj=asymmetric:1"], "descent_sweeps": 1,
                       "calibration": {"samples": 8, "seq_len": 16}})");
  const auto quantize = [&](const std::string& recipe, const std::string& out, const std::string& more) {
    const Outcome outcome = run(dir, fmt::format("quantize {}/float -o {}/{} --recipe {}/{} --calibration "
                                                 "{}/tokens.jsonl --device cpu {}",
                                                 dir.path().string(), dir.path().string(), out,
                                                 dir.path().string(), recipe, dir.path().string(), more));
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    return read_manifest(dir / out);
  };
  const Manifest first = quantize("recipe.json", "first", "--group-size 32");
  const auto& recipe = first.recipe;
  REQUIRE(recipe.at("type") == "u8b128");
  REQUIRE(recipe.at("group_size") == 32);  // the command line wins
  REQUIRE(recipe.at("signed_scales") == false);
  REQUIRE(recipe.at("true_sequential") == true);  // the default stays
  REQUIRE(recipe.at("descent_sweeps") == 1);
  REQUIRE(recipe.at("ignore").size() == 1);
  REQUIRE(recipe.at("layer").size() == 2);
  REQUIRE(first.layers.size() == 13);

  const Manifest again = quantize("first/marlin_pack.json", "again", "");
  REQUIRE(again.recipe == first.recipe);
  REQUIRE(test::read_file(dir / "first" / "model.safetensors") ==
          test::read_file(dir / "again" / "model.safetensors"));
}

TEST_CASE("each kind of failure has its exit code and one clear message", "[command-line]") {
  const test::ScratchDir dir;
  test::write_tiny_model(dir / "float");
  test::write_tokens(dir / "tokens.jsonl", 8 * 16);
  const std::string model = (dir / "float").string(), out = (dir / "out").string(),
                    tokens = (dir / "tokens.jsonl").string();
  test::write_file(dir / "unknown.json", R"({"group": 64})");
  test::write_file(dir / "wrong.json", R"({"group_size": 100})");
  const std::string rtn = "quantize " + model + " -o " + out + " --method rtn --recipe ";
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
      {rtn + (dir / "unknown.json").string(), 2, "unknown key \"group\"; there are method, bits"},
      {rtn + (dir / "wrong.json").string(), 2, "\"group_size\""},
      {rtn + tokens, 3, "tokens.jsonl"},
      {"calibrate -o " + out, 2, "--merge"},
      {"calibrate " + model + " -o " + out + " --calibration " + tokens, 3, "windows"},
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

TEST_CASE("statistics are made, merged and solved from on the command line", "[command-line]") {
  const test::ScratchDir dir;
  test::write_tiny_model(dir / "float");
  test::write_tokens(dir / "a.jsonl", 8 * 16);
  test::write_tokens(dir / "b.jsonl", 8 * 16, 96, 8);
  const std::string base = dir.path().string(), model = base + "/float";
  for (const char* text : {"a", "b"}) {
    const Outcome outcome = run(
        dir,
        fmt::format("calibrate {} -o {}/{}.safetensors --calibration {}/{}.jsonl --samples 8 --seq-len 16",
                    model, base, text, base, text));
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
  }
  REQUIRE(run(dir, fmt::format("calibrate --merge {0}/a.safetensors {0}/b.safetensors -o {0}/ab.safetensors",
                               base))
              .code == 0);
  const std::string quantize = fmt::format(
      "quantize {} -o {}/out --group-size 64 --device cpu --stats {}/ab.safetensors ", model, base, base);
  for (const char* more : {"--true-sequential", "--target-correction 0.5", "--samples 8", "--method rtn"}) {
    const Outcome refused = run(dir, quantize + more);
    CAPTURE(more, refused.err);
    REQUIRE(refused.code == 2);
    REQUIRE(refused.err.find("--stats") != std::string::npos);
  }
  const Outcome plan = run(dir, quantize + "--dry-run");
  REQUIRE(plan.code == 0);
  REQUIRE(plan.out.find("memory") != std::string::npos);
  REQUIRE_FALSE(fs::exists(dir / "out"));
  const Outcome done = run(dir, quantize + "--json " + base + "/q.json");
  CAPTURE(done.err);
  REQUIRE(done.code == 0);
  REQUIRE(done.out.find("--no-true-sequential --target-correction 0") != std::string::npos);
  const auto report = nlohmann::json::parse(test::read_file(dir / "q.json"));
  REQUIRE(report.at("estimate").at("artifacts").at(0).at("bytes") ==
          report.at("quantize").at("artifacts").at(0).at("bytes"));
  REQUIRE(report.at("measured").at("memory_bytes") > 0);

  // The artifact's recipe makes it again: --float-inputs is part of it, the texts are not.
  const Outcome again =
      run(dir, fmt::format("quantize {0}/float -o {0}/again --device cpu --recipe {0}/out/marlin_pack.json "
                           "--stats {0}/ab.safetensors",
                           base));
  CAPTURE(again.err);
  REQUIRE(again.code == 0);
  REQUIRE(test::read_file(dir / "again" / kManifestName) == test::read_file(dir / "out" / kManifestName));
}

TEST_CASE("help and version succeed", "[command-line]") {
  const test::ScratchDir dir;
  REQUIRE(run(dir, "--version").code == 0);
  REQUIRE(run(dir, "quantize --help").code == 0);
}
