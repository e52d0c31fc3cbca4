#include "tests/support/tiny_model.hpp"

#include <cmath>
#include <cstring>
#include <random>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "model/config.hpp"
#include "model/linear_specs.hpp"
#include "packer/format/float16.hpp"
#include "packer/io/checkpoint_writer.hpp"
#include "tests/support/files.hpp"

namespace mpk::test {
namespace {

void set(Tensor& tensor, std::int64_t index, float value) {
  const std::uint16_t bits = float_to_bf16(value);
  std::memcpy(tensor.data.data() + index * 2, &bits, 2);
}

Tensor random_tensor(std::mt19937_64& engine, const Shape& shape, float norm_mean) {
  std::int64_t elements = 1;
  for (const auto extent : shape) elements *= extent;
  Tensor tensor{DType::BF16, shape, std::vector<std::byte>(static_cast<std::size_t>(elements) * 2)};
  std::normal_distribution<float> normal{0.0f, shape.size() == 1 ? 0.1f : 0.08f};
  for (std::int64_t i = 0; i < elements; ++i) {
    float value = normal(engine) + (shape.size() == 1 ? 1.0f : 0.0f);
    if (shape.size() == 1 && i % 61 == 5) value *= 8.0f;  // norms make the outlier channels
    if (shape.size() == 1) value += norm_mean - 1.0f;
    set(tensor, i, value);
  }
  return tensor;
}

std::vector<TensorSpec> specs_of(const DecoderConfig& config) {
  std::vector<TensorSpec> specs{
      {config.tensor_prefix + "embed_tokens.weight", DType::BF16, {config.vocab, config.hidden}},
      {config.tensor_prefix + "norm.weight", DType::BF16, {config.hidden}}};
  const auto add_norm = [&](const std::string& name, std::int64_t size) {
    specs.push_back({name, DType::BF16, {size}});
  };
  if (!config.tied_embeddings)
    specs.push_back({"lm_head.weight", DType::BF16, {config.vocab, config.hidden}});
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    for (const LinearSpec& linear : linear_specs(config, i)) {
      specs.push_back({linear.module + ".weight", DType::BF16, {linear.n.value, linear.k.value}});
      if (linear.bias) specs.push_back({linear.module + ".bias", DType::BF16, {linear.n.value}});
    }
    if (config.has_experts(i))
      specs.push_back(
          {router_module(config, i) + ".weight", DType::BF16, {config.experts.count, config.hidden}});
    add_norm(norm_tensor(config, i, LayerNorm::attention_input), config.hidden);
    add_norm(norm_tensor(config, i, LayerNorm::mlp_input), config.hidden);
    if (config.output_norms) {
      add_norm(norm_tensor(config, i, LayerNorm::attention_output), config.hidden);
      add_norm(norm_tensor(config, i, LayerNorm::mlp_output), config.hidden);
    }
    if (config.experts.selection_bias && config.has_experts(i))
      specs.push_back(
          {router_module(config, i) + ".e_score_correction_bias", DType::BF16, {config.experts.count}});
    if (config.latent) {
      add_norm(latent_norm_tensor(config, i, LinearRole::kv_a), config.latent->kv_rank);
      if (config.latent->q_rank > 0)
        add_norm(latent_norm_tensor(config, i, LinearRole::q_a), config.latent->q_rank);
    }
    if (config.qk_norm)
      for (const char* name : {"q_norm", "k_norm"})
        add_norm(fmt::format("{}layers.{}.self_attn.{}.weight", config.tensor_prefix, i, name),
                 config.head_dim);
  }
  return specs;
}

/// One channel is positive in every token, and one row of each router falls with it.
void starve_expert(std::int64_t expert, const TensorSpec& spec, const DecoderConfig& config, Tensor& tensor) {
  constexpr std::int64_t kChannel = 7;
  if (spec.name == "model.embed_tokens.weight")
    for (std::int64_t token = 0; token < config.vocab; ++token)
      set(tensor, token * config.hidden + kChannel, 4.0f);
  if (spec.shape == Shape{config.experts.count, config.hidden})
    for (std::int64_t channel = 0; channel < config.hidden; ++channel)
      set(tensor, expert * config.hidden + channel, channel == kChannel ? -16.0f : 0.0f);
}

}  // namespace

void write_tiny_model(const std::filesystem::path& directory, const TinyModel& m) {
  nlohmann::ordered_json config{{"architectures", {m.architecture}},
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
  config.update(m.config);
  const bool is_part = m.architecture == "Gemma3ForConditionalGeneration";
  if (is_part)
    config = nlohmann::ordered_json{{"architectures", {m.architecture}},
                                    {"text_config", nlohmann::ordered_json(config)}};
  DecoderConfig parsed = parse_config(config);
  if (is_part) parsed.tensor_prefix = "language_model.model.";
  std::filesystem::create_directories(directory);
  const auto specs = specs_of(parsed);
  CheckpointWriter writer{directory, specs, std::uint64_t{1} << 30};
  std::mt19937_64 engine{m.seed};
  for (const TensorSpec& spec : specs) {
    Tensor tensor = random_tensor(engine, spec.shape, 1.0f - static_cast<float>(parsed.norm_offset));
    if (m.unused_expert >= 0) starve_expert(m.unused_expert, spec, parsed, tensor);
    writer.write(spec.name, tensor.view());
  }
  writer.finish();
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
