#pragma once
// What a quantize will cost: bytes to the last one, memory and time as well as can be told without doing it.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/pipeline/quantize_job.hpp"

namespace mpk {

struct QuantizeEstimate {
  /// Linears of the same kind, shape and scheme.
  struct Kind {
    std::string kind;  ///< the last component of their names
    K k;
    N n;
    std::optional<Scheme> scheme;  ///< nullopt: they stay in floating point
    std::int64_t count = 0;
  };
  std::vector<Kind> kinds;
  std::int64_t other_tensors = 0;  ///< copied: embeddings, norms, ..
  std::uint64_t other_bytes = 0, source_bytes = 0;

  struct Artifact {
    std::string format;
    std::uint64_t tensor_bytes = 0;  ///< exact
    std::uint64_t file_bytes = 0;    ///< of the tensor files with their headers, exact
    std::int64_t shards = 0;
  };
  std::vector<Artifact> artifacts;
  std::uint64_t disk_bytes = 0;  ///< all artifacts, with the files beside the tensors but the manifest
  std::optional<std::uint64_t> free_bytes;  ///< where the output goes; nullopt: the system does not tell

  std::uint64_t memory_bytes = 0;                 ///< of the process at its peak, about
  std::optional<std::uint64_t> gpu_memory_bytes;  ///< if the GPU solves

  /// On the engine that will be taken, from floating-point operations and rates that are measured here, in a
  /// moment.
  struct Seconds {
    double load = 0, forward = 0, hessian = 0, solve = 0;
    double total() const { return load + forward + hessian + solve; }
  };
  Seconds seconds;
  double forward_flops = 0, hessian_flops = 0;
};

/// Reads headers only. Throws what a run would throw before its work, Error{usage} if the destination exists.
QuantizeEstimate estimate_quantize(const QuantizeJob& job);

/// Most memory that this process has had so far.
std::uint64_t peak_memory();

}  // namespace mpk
