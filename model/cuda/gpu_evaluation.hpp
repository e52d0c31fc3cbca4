#pragma once
// Perplexity and divergence on the GPU: what perplexity() and compare() measure, layer by layer, in float32
// or in 16-bit floats with float32 sums.

#include <cstdint>
#include <functional>
#include <span>

#include "gpu/blas.hpp"
#include "model/cuda/gpu_layer.hpp"
#include "model/divergence.hpp"

namespace mpk {

struct GpuEvaluationModel {
  const DecoderConfig& config;  ///< one that gpu_refusal() accepts
  TensorSource tensors;         ///< of the whole decoder; what it returns must live until the next call
};

using EvaluationProgress = std::function<void(std::int64_t done, std::int64_t total)>;

/// Holds the residual stream of all tokens in GPU memory. Throws Error{device} if it does not fit, and what
/// perplexity() throws.
Perplexity gpu_perplexity(const GpuEvaluationModel& model, std::span<const std::int32_t> tokens,
                          std::int64_t length, GpuFloat type, const EvaluationProgress& progress);
/// The same of two models, one after the other, and what compare() throws.
Comparison gpu_compare(const GpuEvaluationModel& model, const GpuEvaluationModel& reference,
                       std::span<const std::int32_t> tokens, std::int64_t length, GpuFloat type,
                       const EvaluationProgress& progress);

}  // namespace mpk
