#pragma once
// The main job: a float checkpoint in, one verified artifact per weight format out.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/pipeline/layer_calibration.hpp"
#include "cli/pipeline/progress.hpp"
#include "cli/pipeline/recipe.hpp"
#include "packer/manifest.hpp"
#include "packer/weight_format.hpp"
#include "quantizer/methods.hpp"

namespace mpk {

struct QuantizeJob {
  std::filesystem::path source, destination;
  std::vector<const WeightFormat*>
      formats;  ///< one: written to destination itself; several: destination/NAME each
  const Method* method = nullptr;
  Recipe recipe;
  QuantizerOptions options;           ///< its scheme is replaced by the recipe's, layer by layer
  std::filesystem::path calibration;  ///< text or token file; needed by methods with a Hessian
  std::int64_t samples = 128, seq_len = 512;
  bool true_sequential = false;  ///< calibrate o on the quantized q, k, v, and so on inside each layer too
  double target_correction = 0;  ///< strength of corrected_target; 0: the float model is not followed
  std::optional<std::uint64_t> seed;  ///< draw the windows instead of taking the first ones
  std::uint64_t max_shard_bytes = 5'000'000'000;
};

struct QuantizeReport {
  std::uint64_t source_bytes = 0;  ///< of tensors
  struct Artifact {
    std::string format;
    std::filesystem::path directory;
    std::uint64_t bytes = 0;  ///< of tensors
    std::int64_t shards = 0;
  };
  std::vector<Artifact> artifacts;
  std::vector<ManifestLayer> layers;  ///< of the first artifact
  double damp_asked = 0;              ///< a layer's own damp is larger where the Hessian needed it
  std::vector<std::string> kept;      ///< linear layers that --ignore left in floating point
  struct {
    double load = 0, solve = 0, write = 0;
    CalibrationSeconds calibration;
  } seconds;
};

/// Sees the finished artifacts (report.artifacts[i].directory) before they appear at the destination; what it
/// throws keeps them from ever appearing there.
using Proof = std::function<void(const QuantizeReport&)>;

/// Quantizes, writes, has it proven and publishes. Everything that can be refused is refused before any work.
/// A failure leaves nothing at the destination.
QuantizeReport run_quantize(const QuantizeJob& job, const Proof& prove = {}, const Progress& progress = {});

}  // namespace mpk
