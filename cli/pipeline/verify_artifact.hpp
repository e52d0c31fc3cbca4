#pragma once
// The proof of a whole artifact: every byte, every layer, and against its source.

#include <filesystem>
#include <optional>
#include <string>

#include "cli/pipeline/device.hpp"
#include "cli/pipeline/progress.hpp"
#include "verify/layer_check.hpp"
#include "verify/model_shapes.hpp"

namespace mpk {

struct VerifyJob {
  std::filesystem::path artifact;
  std::vector<LinearShape> shapes;              ///< instead of an artifact: synthetic layers of these shapes
  std::optional<std::filesystem::path> source;  ///< the float checkpoint it came from
  Device device = Device::automatic;
  CheckOptions checks;  ///< its use_gpu is decided by `device`
};

/// Findings go into the report. Throws Error{bad_input} if the artifact cannot be opened at all,
/// Error{device} if a GPU was demanded and there is none.
VerifyReport run_verify(const VerifyJob& job, const Progress& progress = {});

}  // namespace mpk
