#pragma once
// An artifact must prove itself, on the CPU and against what it was made from.

#include <filesystem>

#include "cli/pipeline/verify_artifact.hpp"
#include "tests/support/catch.hpp"

namespace mpk::test {

inline void require_verified(const std::filesystem::path& directory, const std::filesystem::path& source) {
  VerifyJob verify;
  verify.artifact = directory;
  verify.source = source;
  verify.device = Device::cpu;
  const VerifyReport verdict = run_verify(verify);
  CAPTURE(directory.string(), verdict.all_failures());
  REQUIRE(verdict.passed());
}

}  // namespace mpk::test
