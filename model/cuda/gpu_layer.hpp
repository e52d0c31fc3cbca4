#pragma once
// One decoder layer's weights in GPU memory, and its forward pass in the stages of model/layer.hpp.
// Activations are column-major, one column per token; the residual stream x is float32, all else of the
// compute type.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gpu/blas.hpp"
#include "model/config.hpp"
#include "model/cuda/chunk.hpp"
#include "model/linear_specs.hpp"
#include "packer/format/tensor.hpp"
#include "packer/format/units.hpp"

namespace mpk {

/// A checkpoint's tensor by its name. Throws Error{bad_input} if there is none.
using TensorSource = std::function<TensorView(const std::string& name)>;

/// Why the GPU cannot run this decoder; empty if it can.
std::string gpu_refusal(const DecoderConfig& config);

/// Host memory on its way to the GPU through pinned buffers, beside what other streams do.
class Uploader {
 public:
  Uploader();
  ~Uploader();
  /// Copies `host` to `device` (of `type`; converted if `dtype` is another float type). Returns when `host`
  /// may change; the copy is done once stream() is.
  void upload(const TensorView& tensor, void* device, GpuFloat type);
  const Stream& stream() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A tensor of the GPU's float types. Throws Error{bad_input} if its shape is not the one config implies.
TensorView float_tensor(const TensorSource& source, const std::string& name, const Shape& shape);

/// The embeddings of a text's tokens.
class GpuEmbeddings {
 public:
  /// `tokens` and what `source` returned must live as long as this. Throws Error{bad_input} for a table of
  /// another shape or a token outside the vocabulary.
  GpuEmbeddings(const DecoderConfig& config, const TensorSource& source,
                std::span<const std::int32_t> tokens);
  /// x (hidden, count) <- those of tokens [begin, begin + count), once the uploader's stream is done.
  void upload(std::int64_t begin, std::int64_t count, Uploader& uploader, float* x);

 private:
  TensorView table_;  ///< (vocab, hidden)
  std::span<const std::int32_t> tokens_;
  std::vector<std::byte> rows_;
};

/// Linears that read the same input, stacked: rows of the first, then of the second, and so on.
struct GpuLinears {
  struct One {
    std::string module;
    N n;
  };
  K k{0};
  std::vector<One> linears;
  DeviceBuffer<std::byte> weight;  ///< (sum of n, K) row-major of the compute type
  DeviceBuffer<float> bias;        ///< (sum of n), or empty
  std::int64_t outputs() const;
  /// Where linear `index` begins.
  void* weight_of(std::size_t index, GpuFloat type);
};

struct GpuLayerWeights {
  GpuLayerWeights(const DecoderConfig& config, GpuFloat type);
  /// Overwrites everything by layer `index`. Throws Error{bad_input} for a tensor whose shape is not the one
  /// config implies.
  void load(const DecoderConfig& config, std::int64_t index, const TensorSource& source, Uploader& uploader);
  /// The same values.
  void copy_from(const GpuLayerWeights& other, const Stream& stream);

  GpuLinears& group_of(LinearRole role);

  GpuFloat type;
  std::int64_t index = -1;
  GpuLinears qkv, o, gate_up, down;
  DeviceBuffer<float> input_norm, post_attention_norm;  ///< (hidden)
  DeviceBuffer<float> q_norm, k_norm;                   ///< (head_dim), or empty
};

/// The forward pass of up to `max_tokens` tokens at a time, in windows of `length`.
class GpuLayerStages {
 public:
  /// References must outlive this object.
  GpuLayerStages(const DecoderConfig& config, const Blas& blas, GpuFloat type, std::int64_t length,
                 std::int64_t max_tokens);
  ~GpuLayerStages();

  /// As LayerStages; what comes back is valid until the same stage runs again.
  const void* attention_input(const GpuLayerWeights& layer, const float* x, std::int64_t tokens);
  /// Into `heads` (num_heads * head_dim, tokens).
  void attention(const GpuLayerWeights& layer, const void* input, std::int64_t tokens, void* heads);
  void add_attention(const GpuLayerWeights& layer, const void* heads, std::int64_t tokens, float* x);
  const void* mlp_input(const GpuLayerWeights& layer, const float* x, std::int64_t tokens);
  const void* activation(const GpuLayerWeights& layer, const void* input, std::int64_t tokens);
  void add_mlp(const GpuLayerWeights& layer, const void* activated, std::int64_t tokens, float* x);
  /// All of them: x <- layer(x). `heads` as in attention().
  void forward(const GpuLayerWeights& layer, std::int64_t tokens, void* heads, float* x);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mpk
