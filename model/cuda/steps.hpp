#pragma once
// The forward pass between the matrix products, as GPU launches. Matrices are column-major in GPU memory, one
// column per token; those of the compute type are raw pointers with a GpuFloat beside them.

#include <cstdint>
#include <optional>

#include "gpu/blas.hpp"
#include "packer/format/digit_map.hpp"

namespace mpk::gpu_steps {

/// out (n, tokens) <- x * weight / sqrt(mean(x^2) + eps)
void rms_norm(std::int64_t n, std::int64_t tokens, const float* x, const float* weight, float eps, void* out,
              GpuFloat type, const Stream& stream);

struct HeadShape {
  std::int64_t num_heads, num_kv_heads, head_dim;
  MPK_HOST_DEVICE std::int64_t rows() const {
    return (num_heads + 2 * num_kv_heads) * head_dim;
  }  ///< of q, k, v stacked
};
struct HeadPositions {
  const float* bias;    ///< (rows) of q, k, v; or nullptr
  const float* q_norm;  ///< (head_dim), or nullptr
  const float* k_norm;
  float eps;
  const float* cos;  ///< (head_dim / 2, length)
  const float* sin;
};
/// qkv (rows, tokens): bias, norm and rotation of every head, in windows of `length` tokens.
void position_heads(const HeadShape& shape, std::int64_t length, std::int64_t tokens,
                    const HeadPositions& positions, void* qkv, GpuFloat type, const Stream& stream);

/// out (num_heads * head_dim, tokens) <- causal attention inside windows of `length` tokens. `window`: how
/// many tokens a query sees, itself included. Throws Error{unsupported} for a head_dim that the kernels lack.
void attend(const HeadShape& shape, std::int64_t length, std::int64_t tokens,
            std::optional<std::int64_t> window, const void* qkv, void* out, GpuFloat type,
            const Stream& stream);

/// out (n, tokens) <- silu(gate) * up, of gate_up (2 n, tokens) with `bias` (2 n) or nullptr added first.
void gate(std::int64_t n, std::int64_t tokens, const void* gate_up, const float* bias, void* out,
          GpuFloat type, const Stream& stream);
/// x (n, tokens) += bias (n)
void add_bias(std::int64_t n, std::int64_t tokens, const float* bias, float* x, const Stream& stream);
/// out <- a - b
void subtract(std::int64_t size, const void* a, const void* b, void* out, GpuFloat type,
              const Stream& stream);
/// out <- a - b of float32, rounded to `type`.
void subtract(std::int64_t size, const float* a, const float* b, void* out, GpuFloat type,
              const Stream& stream);
/// Between element types; `in` and `out` may not overlap unless the types are equal.
void convert(std::int64_t size, const void* in, GpuFloat in_type, void* out, GpuFloat out_type,
             const Stream& stream);

/// Of one token and one model: log sum exp(logits) = top + log(sum).
struct GpuLogitSum {
  double sum;
  float top, target;  ///< the largest logit and that of the token that came
};
struct GpuPrediction {
  GpuLogitSum model, reference;
  double moment;  ///< sum exp(l_reference - top_reference) (l_reference - l_model)
  std::int32_t agree;
};
/// logits (vocab, tokens) of the model and of the reference (or nullptr), `came` (tokens): the token that
/// each predicts.
void predictions(std::int64_t vocab, std::int64_t tokens, const float* model, const float* reference,
                 const std::int32_t* came, GpuPrediction* out, const Stream& stream);

}  // namespace mpk::gpu_steps
