#pragma once
// A random decoder small enough to be quantized in milliseconds, with outlier channels, and tokens to
// calibrate it on.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace mpk::test {

struct TinyModel {
  std::int64_t hidden = 128, intermediate = 256, layers = 2, heads = 2, kv_heads = 1, head_dim = 64,
               vocab = 96;
  bool tied = true;
  std::uint64_t seed = 1;
  std::string architecture = "LlamaForCausalLM";
  nlohmann::json config = nlohmann::json::object();  ///< further keys of config.json
  std::int64_t unused_expert = -1;                   ///< of every layer: no token is ever routed to it
};

/// Writes config.json, model.safetensors (BF16) and a few side files.
void write_tiny_model(const std::filesystem::path& directory, const TinyModel& model = {});

/// A .jsonl file with one line of `count` ids below `vocab`.
void write_tokens(const std::filesystem::path& file, std::int64_t count, std::int64_t vocab = 96,
                  std::uint64_t seed = 7);

}  // namespace mpk::test
