// The layer on the GPU beside the layer on the CPU: float32 within rounding, 16-bit floats within theirs, and
// the same bits whatever else passes together.

#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "gpu/device_buffer.hpp"
#include "kernels/gpu.hpp"
#include "model/cuda/gpu_evaluation.hpp"
#include "model/cuda/gpu_layer.hpp"
#include "model/decoder.hpp"
#include "packer/format/float16.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

namespace {

bool no_gpu() {
  if (gpu_status().usable) return false;
  WARN("no GPU: " << gpu_status().reason);
  return true;
}

/// Random bfloat16 tensors for any name and shape that is asked for, remembered.
class RandomTensors final : public WeightSource {
 public:
  explicit RandomTensors(const DecoderConfig& config, unsigned seed = 5) {
    std::mt19937 random{seed};
    std::normal_distribution<float> normal;
    const auto add = [&](const std::string& name, Shape shape, float mean, float deviation) {
      Tensor& tensor = tensors_[name];
      std::int64_t size = 1;
      for (const std::int64_t extent : shape) size *= extent;
      tensor = {DType::BF16, std::move(shape), std::vector<std::byte>(static_cast<std::size_t>(2 * size))};
      for (std::int64_t i = 0; i < size; ++i) {
        const std::uint16_t bits = float_to_bf16(mean + deviation * normal(random));
        std::memcpy(tensor.data.data() + 2 * i, &bits, 2);
      }
    };
    for (const LinearSpec& spec : linear_specs(config, 0)) {
      add(spec.module + ".weight", {spec.n.value, spec.k.value}, 0,
          1 / std::sqrt(static_cast<float>(spec.k.value)));
      if (spec.bias) add(spec.module + ".bias", {spec.n.value}, 0, 0.5f);
    }
    add(norm_tensor(config, 0, LayerNorm::attention_input), {config.hidden}, 1, 0.2f);
    add(norm_tensor(config, 0, LayerNorm::mlp_input), {config.hidden}, 1, 0.2f);
    add("model.layers.0.self_attn.q_norm.weight", {config.head_dim}, 1, 0.2f);
    add("model.layers.0.self_attn.k_norm.weight", {config.head_dim}, 1, 0.2f);
    add("model.embed_tokens.weight", {config.vocab, config.hidden}, 0, 1);
    add("model.norm.weight", {config.hidden}, 1, 0.2f);
    add("lm_head.weight", {config.vocab, config.hidden}, 0, 0.1f);
  }
  bool contains(const std::string& name) const override { return tensors_.contains(name); }
  TensorView view(const std::string& name) const { return tensors_.at(name).view(); }
  MatrixF load(const std::string& name) const override {
    const Tensor& tensor = tensors_.at(name);
    const std::int64_t cols = tensor.shape[0], rows = tensor.shape.size() > 1 ? tensor.shape[1] : 1;
    MatrixF matrix(tensor.shape.size() > 1 ? rows : cols, tensor.shape.size() > 1 ? cols : 1);
    for (Eigen::Index i = 0; i < matrix.size(); ++i) {
      std::uint16_t bits = 0;
      std::memcpy(&bits, tensor.data.data() + 2 * i, 2);
      matrix.data()[i] = bf16_to_float(bits);
    }
    return matrix;
  }

 private:
  std::map<std::string, Tensor> tensors_;
};

DecoderConfig small_config(std::int64_t head_dim, std::int64_t kv_heads) {
  DecoderConfig config;
  config.architecture = "LlamaForCausalLM";
  config.hidden = 192;
  config.intermediate = 320;
  config.num_layers = 1;
  config.vocab = 16;
  config.num_heads = 4;
  config.num_kv_heads = kv_heads;
  config.head_dim = head_dim;
  config.tied_embeddings = true;
  config.sliding_window = {std::nullopt};
  return config;
}

MatrixF random_state(const DecoderConfig& config, std::int64_t tokens) {
  std::mt19937 random{9};
  std::normal_distribution<float> normal;
  MatrixF x(config.hidden, tokens);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = normal(random);
  return x;
}

/// layer(x), some windows at a time.
MatrixF run_on_gpu(const DecoderConfig& config, const RandomTensors& tensors, GpuFloat type,
                   std::int64_t length, const MatrixF& x, std::int64_t chunk) {
  const Stream stream;
  const Blas blas{stream};
  Uploader uploader;
  GpuLayerWeights layer{config, type};
  layer.load(
      config, 0, [&](const std::string& name) { return tensors.view(name); }, uploader);
  uploader.stream().wait();
  GpuLayerStages stages{config, blas, type, length, chunk};
  DeviceBuffer<float> state{std::span{x.data(), static_cast<std::size_t>(x.size())}, stream};
  DeviceBuffer<std::byte> heads{static_cast<std::size_t>(config.num_heads * config.head_dim * chunk) * 4};
  for (std::int64_t begin = 0; begin < x.cols(); begin += chunk) {
    const std::int64_t count = std::min(chunk, x.cols() - begin);
    stages.forward(layer, count, heads.data(), state.data() + begin * config.hidden);
  }
  const std::vector<float> host = state.to_host(stream);
  return Eigen::Map<const MatrixF>{host.data(), x.rows(), x.cols()};
}

}  // namespace

TEST_CASE("a layer on the GPU is the layer on the CPU", "[gpu]") {
  if (no_gpu()) return;
  const auto head_dim = GENERATE(16, 64, 80, 128);
  const auto kv_heads = GENERATE(1, 4);
  const auto length = GENERATE(1, 50, 64, 200);
  const bool dressed = GENERATE(false, true);  // biases, norms of heads, a window shorter than the text
  DecoderConfig config = small_config(head_dim, kv_heads);
  if (dressed) {
    config.qkv_bias = config.o_bias = config.mlp_bias = config.qk_norm = true;
    config.sliding_window = {37};
  }
  CAPTURE(head_dim, kv_heads, length, dressed);
  const RandomTensors tensors{config};
  const Decoder decoder{config, tensors};
  const MatrixF x = random_state(config, 3 * length);
  MatrixF expected = x;
  decoder.forward(decoder.load_layer(0), length, expected);
  const double size = (expected - x).norm();
  const auto error = [&](const MatrixF& got) { return (got - expected).norm() / size; };
  REQUIRE(error(run_on_gpu(config, tensors, GpuFloat::f32, length, x, 3 * length)) < 3e-6);
  REQUIRE(error(run_on_gpu(config, tensors, GpuFloat::f16, length, x, 3 * length)) < 2e-3);
  REQUIRE(error(run_on_gpu(config, tensors, GpuFloat::bf16, length, x, 3 * length)) < 1.5e-2);
}

TEST_CASE("longer windows on the GPU", "[gpu]") {
  if (no_gpu()) return;
  const DecoderConfig config = small_config(64, 2);
  const RandomTensors tensors{config};
  const Decoder decoder{config, tensors};
  const MatrixF x = random_state(config, 2 * 1100);
  MatrixF expected = x;
  decoder.forward(decoder.load_layer(0), 1100, expected);
  const MatrixF got = run_on_gpu(config, tensors, GpuFloat::bf16, 1100, x, 1100);
  REQUIRE((got - expected).norm() / (expected - x).norm() < 1.5e-2);
  REQUIRE(run_on_gpu(config, tensors, GpuFloat::bf16, 1100, x, 1100) == got);
}

TEST_CASE("perplexity and divergence on the GPU are the CPU's", "[gpu]") {
  if (no_gpu()) return;
  DecoderConfig config = small_config(64, 2);
  config.vocab = 1000;
  config.tied_embeddings = GENERATE(false, true);
  const RandomTensors tensors{config, 5}, others{config, 6};
  const Decoder model{config, tensors}, reference{config, others};
  std::vector<std::int32_t> tokens(1100);  // the last window is not whole
  std::mt19937 random{3};
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(random() % 1000);
  const std::int64_t length = 200;
  const auto source = [](const RandomTensors& from) {
    return [&from](const std::string& name) { return from.view(name); };
  };
  const Comparison cpu = compare(model, reference, tokens, length);
  const Comparison gpu =
      gpu_compare({config, source(tensors)}, {config, source(others)}, tokens, length, GpuFloat::f32, {});
  REQUIRE(gpu.model.predictions == cpu.model.predictions);
  REQUIRE(gpu.model.value == Approx(cpu.model.value).epsilon(1e-6));
  REQUIRE(gpu.reference.value == Approx(cpu.reference.value).epsilon(1e-6));
  REQUIRE(gpu.divergence.mean == Approx(cpu.divergence.mean).epsilon(1e-5));
  REQUIRE(gpu.divergence.percentile_99 == Approx(cpu.divergence.percentile_99).epsilon(1e-4));
  REQUIRE(gpu.divergence.top1_agreement == Approx(cpu.divergence.top1_agreement).epsilon(2e-2));
  REQUIRE(gpu_perplexity({config, source(tensors)}, tokens, length, GpuFloat::f32, {}).value ==
          gpu.model.value);
}
