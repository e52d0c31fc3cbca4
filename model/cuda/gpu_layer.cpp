#include "model/cuda/gpu_layer.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "model/cuda/steps.hpp"
#include "model/linear_specs.hpp"
#include "model/rope.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

constexpr std::size_t kStagingBytes = std::size_t{16} << 20;

GpuFloat gpu_float(DType dtype, const std::string& what) {
  switch (dtype) {
    case DType::F16:
      return GpuFloat::f16;
    case DType::BF16:
      return GpuFloat::bf16;
    case DType::F32:
      return GpuFloat::f32;
    default:
      throw Error{ErrorKind::unsupported,
                  fmt::format("{} is {}; the GPU reads F16, BF16 and F32", what, info(dtype).name)};
  }
}

}  // namespace

std::string gpu_refusal(const DecoderConfig& config) {
  DecoderConfig known = config;
  known.fused_qkv = known.fused_gate_up = false;
  if (known.rope.type == "longrope" || known.rope.type == "yarn") known.rope.type = "default";
  if (!known.is_plain_dense())
    return fmt::format("{}: the GPU runs decoders of Llama's kind only", config.architecture);
  if (config.head_dim % 8 != 0 || config.head_dim > 128)
    return fmt::format("heads of {} elements; the GPU's attention takes multiples of 8 up to 128",
                       config.head_dim);
  return {};
}

// ---- Uploader

struct Uploader::Impl {
  Stream stream;
  struct Staging {
    std::byte* host = nullptr;
    Event copied;
  };
  std::array<Staging, 2> staging;
  std::size_t turn = 0;
  DeviceBuffer<std::byte> raw;  ///< a piece before its conversion

  Impl() {
    for (Staging& one : staging) {
      MPK_CUDA(cudaHostAlloc(reinterpret_cast<void**>(&one.host), kStagingBytes, cudaHostAllocDefault));
      one.copied.record(stream);
    }
  }
  ~Impl() {
    for (Staging& one : staging) cudaFreeHost(one.host);
  }
};

Uploader::Uploader() : impl_{std::make_unique<Impl>()} {}
Uploader::~Uploader() = default;
const Stream& Uploader::stream() const {
  return impl_->stream;
}

void Uploader::upload(const TensorView& tensor, void* device, GpuFloat type) {
  const GpuFloat from = gpu_float(tensor.dtype, "a tensor");
  if (from != type && impl_->raw.size() == 0) impl_->raw = DeviceBuffer<std::byte>{kStagingBytes};
  auto* to = static_cast<std::byte*>(device);
  for (std::size_t begin = 0; begin < tensor.data.size(); begin += kStagingBytes) {
    const std::size_t bytes = std::min(kStagingBytes, tensor.data.size() - begin),
                      count = bytes / bytes_of(from);
    Impl::Staging& staging = impl_->staging[impl_->turn++ % impl_->staging.size()];
    staging.copied.wait();
    std::memcpy(staging.host, tensor.data.data() + begin, bytes);
    void* target = from == type ? to : impl_->raw.data();
    MPK_CUDA(cudaMemcpyAsync(target, staging.host, bytes, cudaMemcpyHostToDevice, impl_->stream.get()));
    staging.copied.record(impl_->stream);
    if (from != type)
      gpu_steps::convert(static_cast<std::int64_t>(count), target, from, to, type, impl_->stream);
    to += count * bytes_of(type);
  }
}

// ---- embeddings

TensorView float_tensor(const TensorSource& source, const std::string& name, const Shape& shape) {
  TensorView tensor = source(name);
  if (tensor.shape != shape)
    throw Error{ErrorKind::bad_input, fmt::format("tensor {} is {}, but config.json makes it {}", name,
                                                  to_string(tensor.shape), to_string(shape))};
  gpu_float(tensor.dtype, "tensor " + name);
  return tensor;
}

GpuEmbeddings::GpuEmbeddings(const DecoderConfig& config, const TensorSource& source,
                             std::span<const std::int32_t> tokens)
    : table_{float_tensor(source, config.tensor_prefix + "embed_tokens.weight",
                          {config.vocab, config.hidden})},
      tokens_{tokens} {
  for (const std::int32_t token : tokens)
    if (token < 0 || token >= config.vocab)
      throw Error{ErrorKind::bad_input,
                  fmt::format("token {} is outside the vocabulary of {}", token, config.vocab)};
}

void GpuEmbeddings::upload(std::int64_t begin, std::int64_t count, Uploader& uploader, float* x) {
  const std::size_t row = table_.data.size() / static_cast<std::size_t>(table_.shape[0]);
  rows_.resize(static_cast<std::size_t>(count) * row);
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < count; ++i) {
    const auto token = static_cast<std::size_t>(tokens_[static_cast<std::size_t>(begin + i)]);
    std::memcpy(rows_.data() + static_cast<std::size_t>(i) * row, table_.data.data() + token * row, row);
  }
  uploader.upload({table_.dtype, {count, table_.shape[1]}, rows_}, x, GpuFloat::f32);
}

// ---- weights

std::int64_t GpuLinears::outputs() const {
  std::int64_t sum = 0;
  for (const One& one : linears) sum += one.n.value;
  return sum;
}

void* GpuLinears::weight_of(std::size_t index, GpuFloat type) {
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < index; ++i) rows += linears[i].n.value;
  return weight.data() + static_cast<std::size_t>(rows * k.value) * bytes_of(type);
}

GpuLinears& GpuLayerWeights::group_of(LinearRole role) {
  switch (role) {
    case LinearRole::q:
    case LinearRole::k:
    case LinearRole::v:
      return qkv;
    case LinearRole::o:
      return o;
    case LinearRole::gate:
    case LinearRole::up:
      return gate_up;
    default:  // what gpu_refusal() lets through has no other
      return down;
  }
}

GpuLayerWeights::GpuLayerWeights(const DecoderConfig& config, GpuFloat t) : type{t} {
  const std::vector<LinearSpec> specs = linear_specs(config, 0);
  for (const LinearSpec& spec : specs) {
    GpuLinears& group = group_of(spec.role);
    group.k = spec.k;
    group.linears.push_back({spec.module, spec.n});
  }
  for (const LinearSpec& spec : specs) {
    GpuLinears& group = group_of(spec.role);
    if (group.weight.size() > 0) continue;
    group.weight =
        DeviceBuffer<std::byte>{static_cast<std::size_t>(group.k.value * group.outputs()) * bytes_of(type)};
    if (spec.bias) group.bias = DeviceBuffer<float>{static_cast<std::size_t>(group.outputs())};
  }
  const auto hidden = static_cast<std::size_t>(config.hidden),
             dim = static_cast<std::size_t>(config.head_dim);
  input_norm = DeviceBuffer<float>{hidden};
  post_attention_norm = DeviceBuffer<float>{hidden};
  if (config.qk_norm) q_norm = DeviceBuffer<float>{dim}, k_norm = DeviceBuffer<float>{dim};
}

void GpuLayerWeights::load(const DecoderConfig& config, std::int64_t layer, const TensorSource& source,
                           Uploader& uploader) {
  index = layer;
  const GpuLinears* last = nullptr;
  std::size_t place = 0;
  std::int64_t row = 0;
  for (const LinearSpec& spec : linear_specs(config, layer)) {
    GpuLinears& group = group_of(spec.role);
    if (&group != last) place = 0, row = 0, last = &group;
    group.linears[place].module = spec.module;
    uploader.upload(float_tensor(source, spec.module + ".weight", {spec.n.value, spec.k.value}),
                    group.weight_of(place, type), type);
    if (spec.bias)
      uploader.upload(float_tensor(source, spec.module + ".bias", {spec.n.value}), group.bias.data() + row,
                      GpuFloat::f32);
    row += spec.n.value;
    ++place;
  }
  const auto norm = [&](const std::string& name, DeviceBuffer<float>& to) {
    uploader.upload(float_tensor(source, name, {static_cast<std::int64_t>(to.size())}), to.data(),
                    GpuFloat::f32);
  };
  norm(norm_tensor(config, layer, LayerNorm::attention_input), input_norm);
  norm(norm_tensor(config, layer, LayerNorm::mlp_input), post_attention_norm);
  if (config.qk_norm) {
    norm(fmt::format("{}layers.{}.self_attn.q_norm.weight", config.tensor_prefix, layer), q_norm);
    norm(fmt::format("{}layers.{}.self_attn.k_norm.weight", config.tensor_prefix, layer), k_norm);
  }
}

void GpuLayerWeights::copy_from(const GpuLayerWeights& other, const Stream& stream) {
  const auto copy = [&](auto& to, const auto& from) {
    if (from.size() > 0)
      MPK_CUDA(
          cudaMemcpyAsync(to.data(), from.data(), from.size_bytes(), cudaMemcpyDeviceToDevice, stream.get()));
  };
  const auto copy_group = [&](GpuLinears& to, const GpuLinears& from) {
    to.linears = from.linears;
    copy(to.weight, from.weight);
    copy(to.bias, from.bias);
  };
  index = other.index;
  copy_group(qkv, other.qkv);
  copy_group(o, other.o);
  copy_group(gate_up, other.gate_up);
  copy_group(down, other.down);
  copy(input_norm, other.input_norm);
  copy(post_attention_norm, other.post_attention_norm);
  copy(q_norm, other.q_norm);
  copy(k_norm, other.k_norm);
}

// ---- stages

struct GpuLayerStages::Impl {
  const DecoderConfig& config;
  const Blas& blas;
  GpuFloat type;
  std::int64_t length;
  gpu_steps::HeadShape shape;
  DeviceBuffer<float> cos, sin;
  DeviceBuffer<std::byte> normed, qkv, gate_up, activated;

  Impl(const DecoderConfig& c, const Blas& b, GpuFloat t, std::int64_t window, std::int64_t max_tokens)
      : config{c}, blas{b}, type{t}, length{window}, shape{c.num_heads, c.num_kv_heads, c.head_dim} {
    const RopeTable table{config.rope, config.head_dim, length};
    const auto floats = [&](const MatrixF& m) {
      return DeviceBuffer<float>{std::span{m.data(), static_cast<std::size_t>(m.size())}, blas.stream()};
    };
    cos = floats(table.cos());
    sin = floats(table.sin());
    const auto room = [&](std::int64_t rows) {
      return DeviceBuffer<std::byte>{static_cast<std::size_t>(rows * max_tokens) * bytes_of(type)};
    };
    normed = room(config.hidden);
    qkv = room(shape.rows());
    gate_up = room(2 * config.intermediate);
    activated = room(config.intermediate);
  }

  /// out (N, tokens) <- weight^T input
  void apply(const GpuLinears& linears, const void* input, std::int64_t tokens, float keep,
             GpuMatrix out) const {
    const std::int64_t k = linears.k.value, n = linears.outputs();
    blas.gemm(GpuOp::transpose, GpuOp::none, n, tokens, k, 1, {linears.weight.data(), type, k},
              {input, type, k}, keep, out);
  }
  void add_applied(const GpuLinears& linears, const void* input, std::int64_t tokens, float* x) const {
    apply(linears, input, tokens, 1, {x, GpuFloat::f32, linears.outputs()});
    if (linears.bias.size() > 0)
      gpu_steps::add_bias(linears.outputs(), tokens, linears.bias.data(), x, blas.stream());
  }
  const void* norm(const DeviceBuffer<float>& weight, const float* x, std::int64_t tokens) {
    gpu_steps::rms_norm(config.hidden, tokens, x, weight.data(), static_cast<float>(config.norm_eps),
                        normed.data(), type, blas.stream());
    return normed.data();
  }
};

GpuLayerStages::GpuLayerStages(const DecoderConfig& config, const Blas& blas, GpuFloat type,
                               std::int64_t length, std::int64_t max_tokens)
    : impl_{std::make_unique<Impl>(config, blas, type, length, max_tokens)} {}
GpuLayerStages::~GpuLayerStages() = default;

const void* GpuLayerStages::attention_input(const GpuLayerWeights& layer, const float* x,
                                            std::int64_t tokens) {
  return impl_->norm(layer.input_norm, x, tokens);
}

void GpuLayerStages::attention(const GpuLayerWeights& layer, const void* input, std::int64_t tokens,
                               void* heads) {
  Impl& s = *impl_;
  const auto optional = [](const DeviceBuffer<float>& buffer) {
    return buffer.size() > 0 ? buffer.data() : nullptr;
  };
  s.apply(layer.qkv, input, tokens, 0, {s.qkv.data(), s.type, s.shape.rows()});
  gpu_steps::position_heads(s.shape, s.length, tokens,
                            {optional(layer.qkv.bias), optional(layer.q_norm), optional(layer.k_norm),
                             static_cast<float>(s.config.norm_eps), s.cos.data(), s.sin.data()},
                            s.qkv.data(), s.type, s.blas.stream());
  gpu_steps::attend(s.shape, s.length, tokens, s.config.sliding_window[static_cast<std::size_t>(layer.index)],
                    s.qkv.data(), heads, s.type, s.blas.stream());
}

void GpuLayerStages::add_attention(const GpuLayerWeights& layer, const void* heads, std::int64_t tokens,
                                   float* x) {
  impl_->add_applied(layer.o, heads, tokens, x);
}

const void* GpuLayerStages::mlp_input(const GpuLayerWeights& layer, const float* x, std::int64_t tokens) {
  return impl_->norm(layer.post_attention_norm, x, tokens);
}

const void* GpuLayerStages::activation(const GpuLayerWeights& layer, const void* input, std::int64_t tokens) {
  Impl& s = *impl_;
  s.apply(layer.gate_up, input, tokens, 0, {s.gate_up.data(), s.type, layer.gate_up.outputs()});
  gpu_steps::gate(s.config.intermediate, tokens, s.gate_up.data(),
                  layer.gate_up.bias.size() > 0 ? layer.gate_up.bias.data() : nullptr, s.activated.data(),
                  s.type, s.blas.stream());
  return s.activated.data();
}

void GpuLayerStages::add_mlp(const GpuLayerWeights& layer, const void* activated, std::int64_t tokens,
                             float* x) {
  impl_->add_applied(layer.down, activated, tokens, x);
}

void GpuLayerStages::forward(const GpuLayerWeights& layer, std::int64_t tokens, void* heads, float* x) {
  attention(layer, attention_input(layer, x, tokens), tokens, heads);
  add_attention(layer, heads, tokens, x);
  add_mlp(layer, activation(layer, mlp_input(layer, x, tokens), tokens), tokens, x);
}

}  // namespace mpk
