// A corrupted byte anywhere in an artifact must turn verify red: the wrong answer and the crash are both
// failures here.

#include <random>

#include "cli/pipeline/quantize.hpp"
#include "cli/pipeline/verify_artifact.hpp"
#include "packer/format/error.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"
#include "tests/support/tiny_model.hpp"

using namespace mpk;
namespace fs = std::filesystem;

namespace {

/// The message that refuses the artifact; empty if it passes.
std::string refusal(const fs::path& artifact) {
  VerifyJob job;
  job.artifact = artifact;
  job.device = Device::cpu;
  job.checks.rows = {M{1}};
  try {
    const VerifyReport report = run_verify(job);
    return report.passed() ? "" : report.all_failures().front();
  } catch (const Error& e) {
    return e.what();
  }
}

fs::path make_artifact(const test::ScratchDir& dir) {
  test::write_tiny_model(dir / "float");
  test::write_tokens(dir / "tokens.jsonl", 8 * 16);
  QuantizeJob job;
  job.source = dir / "float";
  job.destination = dir / "out";
  job.formats = {weight_format_named("marlin")};
  job.method = &methods().front();
  job.recipe.scheme = {kU4B8, GroupSize{64}, DType::F16};
  job.calibration = dir / "tokens.jsonl";
  job.samples = 8;
  job.seq_len = 16;
  job.max_shard_bytes = 60'000;  // several shards and an index
  run_quantize(job);
  return job.destination;
}

std::vector<fs::path> files_of(const fs::path& directory) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

}  // namespace

TEST_CASE("200 seeded corruptions of one artifact are all refused with a message", "[verify][corruption]") {
  const test::ScratchDir dir;
  const fs::path artifact = make_artifact(dir);
  REQUIRE(refusal(artifact).empty());
  const auto files = files_of(artifact);
  std::mt19937_64 engine{test::seed()};
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    const fs::path& file =
        files[i < static_cast<int>(files.size()) ? static_cast<std::size_t>(i) : engine() % files.size()];
    const std::string original = test::read_file(file);
    std::string damaged = original;
    const std::size_t at = engine() % damaged.size();
    switch (engine() % 4) {
      case 0:  // one bit
        damaged[at] = static_cast<char>(damaged[at] ^ (1 << engine() % 8));
        break;
      case 1:  // one byte
        damaged[at] = static_cast<char>(damaged[at] + 1 + static_cast<char>(engine() % 255));
        break;
      case 2:  // cut off
        damaged.resize(at);
        break;
      default:  // a byte too many
        damaged.insert(at, 1, static_cast<char>(engine()));
    }
    if (damaged == original) continue;
    test::write_file(file, damaged);
    const std::string message = refusal(artifact);
    CAPTURE(i, file.filename().string(), at, damaged.size(), original.size());
    REQUIRE_FALSE(message.empty());
    ++refused;
    test::write_file(file, original);
  }
  REQUIRE(refused >= 195);  // a few draws may change nothing
  REQUIRE(refusal(artifact).empty());
}

TEST_CASE("files that are missing or were added are refused", "[verify][corruption]") {
  const test::ScratchDir dir;
  const fs::path artifact = make_artifact(dir);
  for (const fs::path& file : files_of(artifact)) {
    CAPTURE(file.filename().string());
    const std::string original = test::read_file(file);
    fs::remove(file);
    REQUIRE_FALSE(refusal(artifact).empty());
    test::write_file(file, original);
  }
  test::write_file(artifact / "adapter.safetensors", "x");
  REQUIRE_FALSE(refusal(artifact).empty());
  fs::remove(artifact / "adapter.safetensors");
  test::write_file(artifact / ".cache", "hidden files are nobody's business");
  REQUIRE(refusal(artifact).empty());
}

TEST_CASE("a manifest that hashes right but claims other codes is refused by decoding",
          "[verify][corruption]") {
  const test::ScratchDir dir;
  const fs::path artifact = make_artifact(dir);
  Manifest manifest = read_manifest(artifact);
  SECTION("codes") {
    manifest.layers[3].codes_sha256[0] = manifest.layers[3].codes_sha256[0] == '0' ? '1' : '0';
  }
  SECTION("scheme") {
    manifest.layers[3].scheme.group_size = GroupSize{32};
  }
  SECTION("layout") {
    manifest.layers[3].layout = "marlin-original";
  }
  SECTION("shape") {
    manifest.layers[3].k = K{manifest.layers[3].k.value * 2};
  }
  SECTION("module") {
    manifest.layers[3].module = "model.layers.9.mlp.up_proj";
  }
  test::write_file(artifact / kManifestName, serialize(manifest));
  REQUIRE_FALSE(refusal(artifact).empty());
}
