#pragma once
// What quantize is asked to do.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "cli/pipeline/device.hpp"
#include "cli/pipeline/recipe.hpp"
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
  /// Every layer is solved for what it reads in the float model. Goes with neither of the two above.
  bool float_inputs = false;
  /// What calibrate saved, instead of a run of the float model over `calibration`; with float_inputs only.
  std::optional<std::filesystem::path> statistics;
  std::optional<std::uint64_t> seed;  ///< draw the windows instead of taking the first ones
  std::uint64_t max_shard_bytes = 5'000'000'000;
  bool restart = false;                   ///< throw away what an interrupted run left
  Device device = Device::cpu;            ///< where the layers are solved
  std::optional<GpuCompute> gpu_compute;  ///< nullopt: what holds the checkpoint's weights exactly
  std::optional<std::int64_t>
      gpu_memory;  ///< bytes the GPU solver may take; nullopt: 24 GiB, or what is free
  std::optional<std::int64_t> host_memory;  ///< bytes of activations that may stand in pinned host memory

  /// The float model's activations are carried along.
  bool corrects_targets() const { return method->minimizes_error && target_correction > 0; }
};

}  // namespace mpk
