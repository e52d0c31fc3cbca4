#pragma once
// Layers for measurements, made where they are needed: bfloat16 in GPU memory.

#include <cstdint>

#include "gpu/stream.hpp"

namespace mpk::gpu_steps {

/// Independent, about normal.
void random_weight(std::int64_t size, float deviation, std::uint64_t seed, void* out, const Stream& stream);
/// (k, tokens) column-major: inputs that partly move together, a few of them much larger than the others.
void random_inputs(std::int64_t k, std::int64_t tokens, std::uint64_t seed, void* out, const Stream& stream);

}  // namespace mpk::gpu_steps
