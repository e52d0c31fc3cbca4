#pragma once
// The proof of a whole artifact: every byte, every layer, and against its source.

#include <filesystem>
#include <optional>
#include <string>

#include "cli/pipeline/progress.hpp"
#include "verify/layer_check.hpp"
#include "verify/model_shapes.hpp"

namespace mpk {

enum class Device { automatic, cpu, cuda };
/// "auto", "cpu", "cuda". Throws Error{usage} for anything else.
Device device_named(const std::string& name);
/// Whether products run on the GPU. Throws Error{device} if one was demanded and there is none.
bool decide_gpu(Device device);

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
