#pragma once
// What a quantize on the GPU computes in, and what of it stands in GPU memory and what in pinned host memory.
// Arithmetic only: no GPU is asked.

#include <cstdint>

#include "cli/pipeline/open_model.hpp"
#include "cli/pipeline/quantize_job.hpp"
#include "model/config.hpp"

namespace mpk {

/// The job's choice, or else the smallest type that holds all the linears' weights exactly. Throws
/// Error{unsupported} if the choice would round them.
GpuCompute gpu_compute_for(const QuantizeJob& job, const OpenModel& model);

struct GpuPlacement {
  std::int64_t fixed_bytes = 0;  ///< in GPU memory whatever the activations do
  std::int64_t gpu_bytes = 0;    ///< fixed_bytes and the activations that are there
  std::int64_t host_bytes = 0;   ///< pinned
  /// In GPU memory: the residual stream and the inputs of o, of the model so far and of the float model.
  bool x = false, heads = false, float_x = false, float_heads = false;
};

/// The budget where a job names none.
inline constexpr std::int64_t kDefaultGpuMemory = std::int64_t{24} << 30;

/// Each store of activations goes to GPU memory while `budget` lasts, those that travel most often first.
/// Throws Error{device} if not even the fixed part fits, or if the rest is more than job.host_memory: what is
/// needed and what to change.
GpuPlacement place_on_gpu(const DecoderConfig& config, const QuantizeJob& job, GpuCompute compute,
                          std::int64_t tokens, std::int64_t budget);

}  // namespace mpk
