#pragma once
// The main job: a float checkpoint in, one verified artifact per weight format out.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/pipeline/layer_solver.hpp"
#include "cli/pipeline/progress.hpp"
#include "cli/pipeline/quantize_job.hpp"
#include "packer/manifest.hpp"

namespace mpk {

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
  std::string engine;                 ///< LayerSolver::name
  std::int64_t num_layers = 0,
               resumed_layers = 0;  ///< decoder layers; those that an interrupted run had done
  double damp_asked = 0;            ///< a layer's own damp is larger where the Hessian needed it
  /// LayerSolver::residual_error after each decoder layer.
  std::vector<std::optional<double>> residual_errors;
  std::vector<std::string> kept;  ///< linear layers that --ignore left in floating point
  std::string why_not_gpu;        ///< if it was asked for and not taken
  std::uint64_t peak_gpu_bytes = 0;
  struct {
    SolverSeconds solver;
    double write = 0;  ///< in which the engine had to wait for the output
  } seconds;
};

/// Sees the finished artifacts (report.artifacts[i].directory) before they appear at the destination; what it
/// throws keeps them from ever appearing there.
using Proof = std::function<void(const QuantizeReport&)>;

/// Quantizes, writes, has it proven and publishes. Everything that can be refused is refused before any work.
/// A failure leaves nothing at the destination. If it may go better another time (a full disk, a signal, kill
/// -9, not an input that cannot be read), the layers that are finished stay in DESTINATION.partial: the same
/// job goes on after them to the same bytes, another one is refused with what differs.
QuantizeReport run_quantize(const QuantizeJob& job, const Proof& prove = {}, const Progress& progress = {});

}  // namespace mpk
