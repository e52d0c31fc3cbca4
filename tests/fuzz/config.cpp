// config.json, then perhaps ff and a second configuration beside it.

#include "model/config.hpp"

#include <vector>

#include "packer/checkpoint_claims.hpp"
#include "packer/io/json_file.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace mpk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [config, side] = fuzz::parts_of(fuzz::text_of(data, size));
  std::vector<ConfigFile> files;
  fuzz::succeeds([&, &config = config] { files.push_back({"config.json", parse_json(config)}); });
  if (!files.empty())
    fuzz::succeeds([&] {
      const DecoderConfig decoder = parse_config(files.front().content);
      fuzz::require(decoder.sliding_window.size() == static_cast<std::size_t>(decoder.num_layers),
                    "a window per layer");
      fuzz::require(decoder.num_heads % decoder.num_kv_heads == 0 && decoder.head_dim % 2 == 0,
                    "whole heads");
      fuzz::require(decoder.num_rotated() % 2 == 0 && decoder.num_rotated() <= decoder.head_dim,
                    "pairs of elements are rotated");
      fuzz::require(
          decoder.experts.count == 0 || (decoder.experts.per_token <= decoder.experts.count &&
                                         decoder.experts.layers.size() == decoder.sliding_window.size()),
          "experts for every token");
    });
  if (!side.empty())
    fuzz::succeeds([&, &side = side] {
      files.push_back({kSideConfigNames[side.size() % kSideConfigNames.size()], parse_json(side)});
    });
  fuzz::succeeds([&] {
    const CheckpointClaims claims = CheckpointClaims::from(files);
    claims.summary();
    for (const char* module : {"model.layers.0.self_attn.q_proj", "model.layers.11.mlp.down_proj", "lm_head",
                               "model.layers.3.mlp.experts.17.gate_proj", ""})
      fuzz::succeeds([&] {
        const Claims of = claims.of(module);
        fuzz::require(!of.bits || (*of.bits >= 1 && *of.bits <= 32), "bits are bounded");
        fuzz::require(!of.group_size || *of.group_size == -1 || *of.group_size >= 1, "groups have rows");
        fuzz::require(!claims.says_unquantized(module) || !of.bits, "unquantized modules have no bits");
      });
  });
  return 0;
}
