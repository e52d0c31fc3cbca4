#pragma once
// What tests of quantize begin with.

#include <filesystem>
#include <map>
#include <string>

#include "cli/pipeline/quantize.hpp"
#include "cli/pipeline/verify_artifact.hpp"
#include "packer/io/sha256.hpp"
#include "tests/support/files.hpp"
#include "tests/support/tiny_model.hpp"

namespace mpk::test {

/// A tiny float model, tokens, and the job to quantize it.
struct QuantizeBench {
  ScratchDir dir;
  QuantizeJob job;

  explicit QuantizeBench(const TinyModel& model = {}) {
    write_tiny_model(dir / "float", model);
    write_tokens(dir / "tokens.jsonl", 16 * 32);
    job.source = dir / "float";
    job.destination = dir / "out";
    job.formats = {weight_format_named("marlin")};
    job.calibration = dir / "tokens.jsonl";
    job.samples = 16;
    job.seq_len = 32;
    job.recipe.scheme = {kU4B8, GroupSize{64}, DType::F16};
    use("gptq");
  }
  void use(const std::string& name) {
    for (const Method& method : methods())
      if (name == method.name) job.method = &method;
  }
  VerifyReport verify(const std::filesystem::path& artifact) const {
    VerifyJob v;
    v.artifact = artifact;
    v.source = job.source;
    v.device = Device::cpu;
    v.checks.rows = {M{1}, M{3}};
    return run_verify(v);
  }
};

/// SHA-256 of every file below a directory.
inline std::map<std::string, std::string> hashes(const std::filesystem::path& directory) {
  std::map<std::string, std::string> result;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory))
    if (entry.is_regular_file())
      result[std::filesystem::relative(entry.path(), directory).string()] = sha256_of_file(entry.path());
  return result;
}

}  // namespace mpk::test
