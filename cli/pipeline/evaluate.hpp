#pragma once
// Perplexity of a checkpoint, float or packed, on a text, and its divergence from another checkpoint.

#include <filesystem>

#include "cli/pipeline/device.hpp"
#include "cli/pipeline/progress.hpp"
#include "model/decoder.hpp"
#include "model/divergence.hpp"

namespace mpk {

/// Where, and on a GPU in what.
struct EvaluationDevice {
  Device device = Device::cpu;
  GpuCompute compute = GpuCompute::float32;
};

/// `text`: what load_tokens takes, with the checkpoint's own tokenizer; whole windows of `seq_len`, each
/// scored alone.
Perplexity evaluate(const std::filesystem::path& model, const std::filesystem::path& text,
                    std::int64_t seq_len, const EvaluationDevice& where = {}, const Progress& progress = {});

/// The same for two checkpoints side by side. Throws Error{bad_input} if they cut the text into different
/// tokens.
Comparison evaluate_against(const std::filesystem::path& model, const std::filesystem::path& reference,
                            const std::filesystem::path& text, std::int64_t seq_len,
                            const EvaluationDevice& where = {}, const Progress& progress = {});

}  // namespace mpk
