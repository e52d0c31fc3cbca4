#pragma once
// Evaluation of open models on the GPU.

#include <cstdint>
#include <span>
#include <string>

#include "cli/pipeline/device.hpp"
#include "cli/pipeline/open_model.hpp"
#include "model/divergence.hpp"

namespace mpk {

/// Why this machine's GPU cannot run the model; empty if it can.
std::string gpu_evaluation_refusal(const DecoderConfig& config);

/// `reference` may be nullptr: then only the model's perplexity means something.
Comparison gpu_evaluate(const OpenModel& model, const OpenModel* reference,
                        std::span<const std::int32_t> tokens, std::int64_t length, GpuCompute compute,
                        const std::function<void(std::int64_t done, std::int64_t total)>& progress);

}  // namespace mpk
