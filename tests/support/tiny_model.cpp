#include "tests/support/tiny_model.hpp"

#include <cmath>
#include <cstring>
#include <random>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "packer/format/float16.hpp"
#include "packer/io/checkpoint_writer.hpp"
#include "tests/support/files.hpp"

namespace mpk::test {
namespace {

Tensor random_tensor(std::mt19937_64& engine, const Shape& shape) {
  std::int64_t elements = 1;
  for (const auto extent : shape) elements *= extent;
  Tensor tensor{DType::BF16, shape, std::vector<std::byte>(static_cast<std::size_t>(elements) * 2)};
  std::normal_distribution<float> normal{0.0f, shape.size() == 1 ? 0.1f : 0.08f};
  for (std::int64_t i = 0; i < elements; ++i) {
    float value = normal(engine) + (shape.size() == 1 ? 1.0f : 0.0f);
    if (shape.size() == 1 && i % 61 == 5) value *= 8.0f;  // norms make the outlier channels
    const std::uint16_t bits = float_to_bf16(value);
    std::memcpy(tensor.data.data() + i * 2, &bits, 2);
  }
  return tensor;
}

std::vector<TensorSpec> specs_of(const TinyModel& m) {
  std::vector<TensorSpec> specs{{"model.embed_tokens.weight", DType::BF16, {m.vocab, m.hidden}},
                                {"model.norm.weight", DType::BF16, {m.hidden}}};
  if (!m.tied) specs.push_back({"lm_head.weight", DType::BF16, {m.vocab, m.hidden}});
  for (std::int64_t i = 0; i < m.layers; ++i) {
    const std::string p = fmt::format("model.layers.{}.", i);
    const std::int64_t q = m.heads * m.head_dim, kv = m.kv_heads * m.head_dim;
    const auto matrix = [&](const char* name, std::int64_t n, std::int64_t k) {
      specs.push_back({p + name + ".weight", DType::BF16, {n, k}});
    };
    matrix("self_attn.q_proj", q, m.hidden);
    matrix("self_attn.k_proj", kv, m.hidden);
    matrix("self_attn.v_proj", kv, m.hidden);
    matrix("self_attn.o_proj", m.hidden, q);
    matrix("mlp.gate_proj", m.intermediate, m.hidden);
    matrix("mlp.up_proj", m.intermediate, m.hidden);
    matrix("mlp.down_proj", m.hidden, m.intermediate);
    specs.push_back({p + "input_layernorm.weight", DType::BF16, {m.hidden}});
    specs.push_back({p + "post_attention_layernorm.weight", DType::BF16, {m.hidden}});
  }
  return specs;
}

}  // namespace

void write_tiny_model(const std::filesystem::path& directory, const TinyModel& m) {
  std::filesystem::create_directories(directory);
  const auto specs = specs_of(m);
  CheckpointWriter writer{directory, specs, std::uint64_t{1} << 30};
  std::mt19937_64 engine{m.seed};
  for (const TensorSpec& spec : specs) writer.write(spec.name, random_tensor(engine, spec.shape).view());
  writer.finish();
  const nlohmann::ordered_json config{{"architectures", {"LlamaForCausalLM"}},
                                      {"model_type", "llama"},
                                      {"hidden_act", "silu"},
                                      {"hidden_size", m.hidden},
                                      {"intermediate_size", m.intermediate},
                                      {"num_hidden_layers", m.layers},
                                      {"num_attention_heads", m.heads},
                                      {"num_key_value_heads", m.kv_heads},
                                      {"head_dim", m.head_dim},
                                      {"vocab_size", m.vocab},
                                      {"rms_norm_eps", 1e-5},
                                      {"rope_theta", 10000.0},
                                      {"tie_word_embeddings", m.tied}};
  write_file(directory / "config.json", config.dump(2));
  write_file(directory / "generation_config.json", "{}\n");
  write_file(directory / "LICENSE", "test\n");
}

void write_tokens(const std::filesystem::path& file, std::int64_t count, std::int64_t vocab,
                  std::uint64_t seed) {
  std::mt19937_64 engine{seed};
  nlohmann::json ids = nlohmann::json::array();
  for (std::int64_t i = 0; i < count; ++i) ids.push_back(engine() % static_cast<std::uint64_t>(vocab));
  write_file(file, ids.dump() + "\n");
}

}  // namespace mpk::test
