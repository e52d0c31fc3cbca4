#pragma once
// Decoders of any config with random weights, without files.

#include <cmath>
#include <functional>
#include <random>
#include <string>

#include "model/decoder.hpp"
#include "model/linear_specs.hpp"
#include "packer/format/error.hpp"

namespace mpk::test {

/// Three layers, sizes that are no multiple of a vector: every loop has a remainder.
inline DecoderConfig small_config() {
  DecoderConfig config;
  config.architecture = "LlamaForCausalLM";
  config.hidden = 52;
  config.intermediate = 75;
  config.num_layers = 3;
  config.vocab = 601;  // more than one tile of cross_entropy()
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 14;
  config.sliding_window = {std::nullopt, 5, std::nullopt};
  return config;
}

inline MatrixF random_matrix(std::int64_t rows, std::int64_t cols, unsigned seed, float scale = 1.0f) {
  std::mt19937 generator{seed};
  std::normal_distribution<float> normal{0.0f, scale};
  return MatrixF::NullaryExpr(rows, cols, [&] { return normal(generator); });
}

/// The same name always gives the same numbers.
class RandomWeights : public WeightSource {
 public:
  RandomWeights(const DecoderConfig& config, unsigned seed) : config_{config}, seed_{seed} {}

  bool contains(const std::string& name) const override { return name != missing; }
  MatrixF load(const std::string& name) const override {
    ++loads;
    if (name == missing) throw Error{ErrorKind::bad_input, "no tensor " + name};
    const auto [rows, cols] = shape(name);
    const unsigned seed = seed_ + static_cast<unsigned>(std::hash<std::string>{}(name));
    if (name.find("norm") != std::string::npos) return random_matrix(rows, cols, seed, 0.2f).array() + 1.0f;
    const bool embedding = name.find("embed") != std::string::npos;
    return random_matrix(rows, cols, seed,
                         embedding || cols == 1 ? 1.0f : 1.5f / std::sqrt(static_cast<float>(rows)));
  }

  std::string missing;  ///< a tensor that is not there
  mutable int loads = 0;

 private:
  struct Extents {
    std::int64_t rows, cols;
  };
  Extents shape(const std::string& name) const {
    const auto is = [&](const char* part) { return name.find(part) != std::string::npos; };
    if (is("embed_tokens") || is("lm_head")) return {config_.hidden, config_.vocab};
    if (is("q_norm") || is("k_norm")) return {config_.head_dim, 1};
    if (is("q_a_layernorm")) return {config_.latent->q_rank, 1};
    if (is("kv_a_layernorm")) return {config_.latent->kv_rank, 1};
    if (is("norm")) return {config_.hidden, 1};
    if (is("correction_bias")) return {config_.experts.count, 1};
    if (is("mlp.gate.")) return {config_.hidden, config_.experts.count};
    const std::string module = name.substr(0, name.rfind('.'));
    for (std::int64_t layer = 0; layer < config_.num_layers; ++layer)
      for (const LinearSpec& spec : linear_specs(config_, layer))
        if (spec.module == module)
          return is(".bias") ? Extents{spec.n.value, 1} : Extents{spec.k.value, spec.n.value};
    throw Error{ErrorKind::bad_input, "no tensor " + name};
  }

  DecoderConfig config_;
  unsigned seed_;
};

}  // namespace mpk::test
