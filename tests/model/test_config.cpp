#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "model/config.hpp"
#include "model/families.hpp"
#include "model/linear_specs.hpp"
#include "packer/format/error.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using nlohmann::json;

namespace {

using Windows = std::vector<std::optional<std::int64_t>>;

json config_of(const std::string& architecture) {
  return {{"architectures", {architecture}},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 128},
          {"max_position_embeddings", 512},
          {"tie_word_embeddings", false},
          {"num_experts", 6},
          {"num_experts_per_tok", 2},
          {"moe_intermediate_size", 24},
          {"n_routed_experts", 6},
          {"n_shared_experts", 1},
          {"n_group", 2},
          {"topk_group", 1},
          {"kv_lora_rank", 20},
          {"qk_rope_head_dim", 6},
          {"qk_nope_head_dim", 10},
          {"v_head_dim", 12},
          {"rms_norm_eps", 1e-5}};
}

json merged(json config, const json& changes) {
  config.update(changes);
  return config;
}

/// The message and kind of the refusal; fails if there is none.
struct Refusal {
  ErrorKind kind{};
  std::string text;
};
Refusal refusal(const json& config) {
  try {
    parse_config(config);
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  }
  FAIL("accepted: " << config.dump());
  return {};
}

}  // namespace

TEST_CASE("every family reads the sizes", "[model][config]") {
  for (const Family& family : kFamilies) {
    json keys = config_of(family.architecture);
    if (family.text_config) keys = {{"architectures", {family.architecture}}, {"text_config", keys}};
    const DecoderConfig config = parse_config(keys);
    CAPTURE(family.architecture);
    CHECK(config.architecture == family.architecture);
    CHECK(config.hidden == 64);
    CHECK(config.intermediate == 96);
    CHECK(config.num_layers == 3);
    CHECK(config.vocab == 128);
    CHECK(config.num_heads == 4);
    CHECK(config.num_kv_heads == (family.latent ? 4 : 2));
    CHECK(config.head_dim == family.head_dim.value_or(16));
    CHECK(config.norm_eps == 1e-5);
    CHECK_FALSE(config.tied_embeddings);
    CHECK(config.sliding_window.size() == 3);
  }
}

TEST_CASE("what is absent means what it means in transformers", "[model][config]") {
  json config = config_of("LlamaForCausalLM");
  for (const char* key : {"rms_norm_eps", "num_key_value_heads"}) config.erase(key);
  CHECK(parse_config(config).norm_eps == 1e-6);
  CHECK(parse_config(config).num_kv_heads == 4);
  CHECK(parse_config(config).rope == RopeConfig{});
  config["num_key_value_heads"] = nullptr;
  CHECK(parse_config(config).num_kv_heads == 4);

  json mistral = config_of("MistralForCausalLM");
  mistral["num_attention_heads"] = 16;
  mistral.erase("num_key_value_heads");
  CHECK(parse_config(mistral).num_kv_heads == 8);
  mistral["num_key_value_heads"] = nullptr;
  CHECK(parse_config(mistral).num_kv_heads == 16);

  json by_type = config_of("Qwen3ForCausalLM");
  by_type.erase("architectures");
  by_type["model_type"] = "qwen3";
  CHECK(parse_config(by_type).architecture == "Qwen3ForCausalLM");
}

TEST_CASE("head_dim is explicit, the family's, or derived", "[model][config]") {
  CHECK(parse_config(merged(config_of("LlamaForCausalLM"), {{"head_dim", 32}})).head_dim == 32);
  CHECK(parse_config(merged(config_of("LlamaForCausalLM"), {{"head_dim", nullptr}})).head_dim == 16);
  CHECK(parse_config(config_of("Qwen3ForCausalLM")).head_dim == 128);
  CHECK(refusal(merged(config_of("LlamaForCausalLM"), {{"hidden_size", 66}})).kind == ErrorKind::bad_input);
  CHECK(refusal(merged(config_of("LlamaForCausalLM"), {{"head_dim", 15}})).kind == ErrorKind::bad_input);
}

TEST_CASE("biases and norms are the family's", "[model][config]") {
  const json asked{{"attention_bias", true}, {"mlp_bias", true}};
  const auto biases = [](const json& config) {
    const DecoderConfig parsed = parse_config(config);
    return std::vector<bool>{parsed.qkv_bias, parsed.o_bias, parsed.mlp_bias, parsed.qk_norm};
  };
  const auto with = [&](const char* name) { return biases(merged(config_of(name), asked)); };
  const auto without = [&](const char* name) { return biases(config_of(name)); };
  CHECK(without("LlamaForCausalLM") == std::vector<bool>{false, false, false, false});
  CHECK(with("LlamaForCausalLM") == std::vector<bool>{true, true, true, false});
  CHECK(with("MistralForCausalLM") == std::vector<bool>{false, false, false, false});
  CHECK(without("Qwen2ForCausalLM") == std::vector<bool>{true, false, false, false});
  CHECK(with("Qwen2ForCausalLM") == std::vector<bool>{true, false, false, false});
  CHECK(without("Qwen3ForCausalLM") == std::vector<bool>{false, false, false, true});
  CHECK(with("Qwen3ForCausalLM") == std::vector<bool>{true, true, false, true});
}

TEST_CASE("sliding windows follow the family's rule", "[model][config]") {
  const auto windows = [](const char* name, const json& changes) {
    return parse_config(merged(config_of(name), changes)).sliding_window;
  };
  const Windows none(3), all(3, 10), all_default(3, 4096);
  CHECK(windows("LlamaForCausalLM", {{"sliding_window", 10}}) == none);
  CHECK(windows("MistralForCausalLM", {{"sliding_window", 10}}) == all);
  CHECK(windows("MistralForCausalLM", {{"sliding_window", nullptr}}) == none);
  CHECK(windows("MistralForCausalLM", json::object()) == all_default);

  const char* name = GENERATE("Qwen2ForCausalLM", "Qwen3ForCausalLM");
  CHECK(windows(name, {{"sliding_window", 10}}) == none);
  CHECK(windows(name, {{"sliding_window", 10}, {"use_sliding_window", true}}) == none);  // from layer 28 on
  CHECK(windows(name, {{"sliding_window", 10}, {"use_sliding_window", true}, {"max_window_layers", 2}}) ==
        Windows{{}, {}, 10});
  CHECK(
      windows(name, {{"sliding_window", nullptr}, {"use_sliding_window", true}, {"max_window_layers", 0}}) ==
      none);
  const json mixed{"sliding_attention", "full_attention", "sliding_attention"};
  CHECK(windows(name, {{"sliding_window", 10}, {"use_sliding_window", true}, {"layer_types", mixed}}) ==
        Windows{10, {}, 10});

  const json config = merged(config_of(name), {{"layer_types", mixed}});
  CHECK(refusal(config).kind == ErrorKind::bad_input);  // nothing says that windows are used
  CHECK(refusal(merged(config, {{"use_sliding_window", true}, {"sliding_window", nullptr}})).kind ==
        ErrorKind::bad_input);
  CHECK(refusal(merged(config, {{"layer_types", {"full_attention"}}})).kind == ErrorKind::bad_input);
  CHECK(refusal(merged(config, {{"layer_types", {"linear_attention", "full_attention", "full_attention"}}}))
            .kind == ErrorKind::unsupported);
}

TEST_CASE("all spellings of rotary embeddings mean the same", "[model][config]") {
  const auto rope = [](const json& changes) {
    return parse_config(merged(config_of("LlamaForCausalLM"), changes)).rope;
  };
  const RopeConfig plain{.theta = 5e5};
  CHECK(rope({{"rope_theta", 5e5}}) == plain);
  CHECK(rope({{"rope_theta", 500000}, {"rope_scaling", nullptr}}) == plain);
  CHECK(rope({{"rope_parameters", {{"rope_theta", 5e5}, {"rope_type", "default"}}}}) == plain);
  CHECK(rope({{"rope_parameters", {{"rope_theta", 5e5}}}}) == plain);

  const RopeConfig linear{.theta = 5e5, .type = "linear", .factor = 2.5};
  CHECK(rope({{"rope_theta", 5e5}, {"rope_scaling", {{"type", "linear"}, {"factor", 2.5}}}}) == linear);
  CHECK(rope({{"rope_theta", 5e5}, {"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.5}}}}) == linear);
  CHECK(rope({{"rope_parameters", {{"rope_theta", 5e5}, {"rope_type", "linear"}, {"factor", 2.5}}}}) ==
        linear);

  const json llama3{{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}};
  const json original = merged(llama3, {{"original_max_position_embeddings", 256}});
  RopeConfig expected{.theta = 5e5, .type = "llama3", .factor = 8};
  expected.original_max_position = 256;
  CHECK(rope({{"rope_theta", 5e5}, {"rope_scaling", original}}) == expected);
  CHECK(rope({{"rope_parameters", merged(original, {{"rope_theta", 5e5}})}}) == expected);
  CHECK(rope({{"rope_theta", 5e5}, {"rope_scaling", original}, {"rope_parameters", original}}) == expected);
  expected.original_max_position = 512;  // max_position_embeddings
  CHECK(rope({{"rope_theta", 5e5}, {"rope_scaling", llama3}}) == expected);
}

TEST_CASE("Phi rotates a part of its heads by factors of their own", "[model][config]") {
  const json factors = json(std::vector<double>(6, 1.5));
  json config =
      merged(config_of("Phi3ForCausalLM"),
             {{"partial_rotary_factor", 0.75},
              {"max_position_embeddings", 4096},
              {"original_max_position_embeddings", 1024},
              {"rope_scaling", {{"type", "su"}, {"short_factor", factors}, {"long_factor", factors}}}});
  const DecoderConfig parsed = parse_config(config);
  CHECK((parsed.fused_qkv && parsed.fused_gate_up));
  CHECK(parsed.num_rotated() == 12);
  CHECK(parsed.rope.type == "longrope");
  CHECK(parsed.rope.original_max_position == 1024);
  CHECK(parsed.rope.factor == 4);
  CHECK(std::abs(parsed.rope.attention_factor - std::sqrt(1.2)) < 1e-12);  // 1 + log 4 / log 1024
  CHECK(parsed.sliding_window == Windows(3));

  config["rope_scaling"]["short_factor"].erase(0);
  const Refusal refused = refusal(config);
  CHECK(refused.kind == ErrorKind::bad_input);
  CHECK(refused.text.find("5 factors for 12 rotated elements") != std::string::npos);
  CHECK(refusal(merged(config_of("LlamaForCausalLM"), {{"rope_scaling", config["rope_scaling"]}})).kind ==
        ErrorKind::unsupported);
  CHECK(refusal(merged(config_of("Phi3ForCausalLM"), {{"partial_rotary_factor", 0.7}})).kind ==
        ErrorKind::bad_input);  // 11 of 16
}

TEST_CASE("Gemma's windows, softcaps and scales have defaults of their own", "[model][config]") {
  json config = config_of("Gemma2ForCausalLM");
  config.erase("tie_word_embeddings");
  const DecoderConfig gemma2 = parse_config(config);
  CHECK(gemma2.sliding_window == Windows{4096, {}, 4096});
  CHECK(gemma2.attention_softcap == 50);
  CHECK(gemma2.logit_softcap == 30);
  CHECK(gemma2.attention_scale == 1.0 / 16);
  CHECK(gemma2.embedding_scale == 8);
  CHECK(gemma2.activation == Activation::gelu_tanh);
  CHECK(gemma2.tied_embeddings);
  CHECK((gemma2.norm_offset == 1 && gemma2.output_norms));
  config.update({{"attn_logit_softcapping", nullptr}, {"final_logit_softcapping", nullptr}});
  CHECK_FALSE(parse_config(config).attention_softcap);
  CHECK_FALSE(parse_config(config).logit_softcap);
  CHECK(refusal(merged(config, {{"use_bidirectional_attention", true}})).kind == ErrorKind::unsupported);
  CHECK(refusal(merged(config, {{"sliding_window", nullptr}})).kind == ErrorKind::bad_input);

  const json gemma3 = merged(config_of("Gemma3ForCausalLM"), {{"num_hidden_layers", 7}});
  const DecoderConfig parsed = parse_config(gemma3);
  CHECK(parsed.sliding_window == Windows{4096, 4096, 4096, 4096, 4096, {}, 4096});
  CHECK(parsed.rope_of(5).theta == 1e6);
  CHECK(parsed.rope_of(6).theta == 1e4);
  CHECK_FALSE(parsed.attention_softcap);
  CHECK_FALSE(parsed.logit_softcap);
  CHECK(refusal(merged(gemma3, {{"rope_parameters", {{"rope_theta", 2}}}})).kind == ErrorKind::unsupported);
}

TEST_CASE("a decoder inside a larger model", "[model][config]") {
  json text = config_of("Gemma3ForCausalLM");
  for (const char* key : {"architectures", "num_attention_heads", "vocab_size"}) text.erase(key);
  const json config{{"architectures", {"Gemma3ForConditionalGeneration"}}, {"text_config", text}};
  DecoderConfig parsed = parse_config(config);
  CHECK(parsed.num_heads == 8);
  CHECK(parsed.vocab == 262208);
  CHECK_FALSE(parsed.tied_embeddings);
  CHECK(
      refusal({{"architectures", {"Gemma3ForConditionalGeneration"}}}).text.find("text_config is missing") !=
      std::string::npos);
  const Refusal refused = refusal(merged(config, {{"text_config", {{"hidden_size", 0}}}}));
  CHECK(refused.text.find("text_config.hidden_size is 0") != std::string::npos);

  struct Named : WeightSource {
    std::string there;
    bool contains(const std::string& name) const override { return name == there; }
    MatrixF load(const std::string&) const override { return {}; }
  } weights;
  weights.there = "language_model.model.embed_tokens.weight";
  locate_tensors(parsed, weights);
  CHECK(linear_specs(parsed, 1).front().module == "language_model.model.layers.1.self_attn.q_proj");
  CHECK(parsed.head == "language_model.lm_head");
  weights.there = "model.language_model.embed_tokens.weight";
  locate_tensors(parsed, weights);
  CHECK(linear_specs(parsed, 1).back().module == "model.language_model.layers.1.mlp.down_proj");
  CHECK(parsed.head == "lm_head");
}

TEST_CASE("which layers have experts", "[model][config]") {
  const json config = merged(config_of("Qwen3MoeForCausalLM"), {{"num_hidden_layers", 4}});
  const auto layers = [&](const json& changes) {
    return parse_config(merged(config, changes)).experts.layers;
  };
  CHECK(layers(json::object()) == std::vector<bool>(4, true));
  CHECK(layers({{"decoder_sparse_step", 2}}) == std::vector<bool>{false, true, false, true});
  CHECK(layers({{"mlp_only_layers", {0, 3, 9}}}) == std::vector<bool>{false, true, true, false});
  CHECK_FALSE(parse_config(config).experts.normalized);
  CHECK(parse_config(merged(config, {{"norm_topk_prob", true}})).experts.normalized);
  CHECK(parse_config(config_of("MixtralForCausalLM")).experts.normalized);
  CHECK(parse_config(config_of("MixtralForCausalLM")).experts.intermediate == 96);
  CHECK(refusal(merged(config, {{"num_local_experts", 5}})).kind == ErrorKind::bad_input);
  CHECK(refusal(merged(config, {{"num_experts_per_tok", 7}})).kind == ErrorKind::bad_input);
  CHECK(refusal(merged(config, {{"num_experts", nullptr}})).text.find("num_experts") != std::string::npos);
  CHECK(refusal(merged(config, {{"mlp_only_layers", {"a"}}})).kind == ErrorKind::bad_input);
}

TEST_CASE("DeepSeek's latent attention and routing", "[model][config]") {
  const char* name = GENERATE("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM");
  CAPTURE(name);
  const bool v3 = std::string{name} == "DeepseekV3ForCausalLM";
  json config =
      merged(config_of(name), {{"first_k_dense_replace", 1}, {"head_dim", 6}, {"q_lora_rank", nullptr}});
  if (!v3) config["topk_method"] = "group_limited_greedy";
  const DecoderConfig parsed = parse_config(config);
  CHECK(parsed.latent->q_rank == 0);
  CHECK(parsed.latent->kv_rank == 20);
  CHECK(parsed.head_dim == 16);
  CHECK(parsed.num_rotated() == 6);
  CHECK(parsed.value_dim() == 12);
  CHECK(parsed.experts.shared_intermediate == 24);
  CHECK(parsed.experts.layers == std::vector<bool>{false, true, true});
  CHECK(parsed.experts.groups == 2);
  CHECK(parsed.experts.sigmoid == v3);
  CHECK(parsed.experts.scores_per_group == (v3 ? 2 : 1));
  CHECK(parsed.experts.normalized == v3);
  CHECK(parsed.experts.scale == (v3 ? 2.5 : 1));
  const json yarn{{"type", "yarn"},
                  {"factor", 40},
                  {"mscale", 0.707},
                  {"mscale_all_dim", 0.707},
                  {"original_max_position_embeddings", 128}};
  const DecoderConfig scaled = parse_config(merged(config, {{"rope_scaling", yarn}}));
  CHECK(scaled.rope.attention_factor == 1);
  const double scale = 0.0707 * std::log(40.0) + 1;
  CHECK(std::abs(*scaled.attention_scale - scale * scale / 4) < 1e-12);

  for (const json& wrong :
       {json{{"moe_layer_freq", 2}}, json{{"topk_method", "other"}}, json{{"scoring_func", "other"}}})
    CHECK(refusal(merged(config, wrong)).kind == ErrorKind::unsupported);
  for (const json& wrong :
       {json{{"n_group", 4}}, json{{"num_experts_per_tok", 4}}, json{{"kv_lora_rank", nullptr}},
        json{{"qk_rope_head_dim", 5}}, json{{"topk_group", 3}}})
    CHECK(refusal(merged(config, wrong)).kind == ErrorKind::bad_input);
  if (!v3) CHECK(refusal(merged(config, {{"norm_topk_prob", true}})).kind == ErrorKind::unsupported);
}

TEST_CASE("every refusal names the key and the value", "[model][config]") {
  struct Case {
    json changes;
    ErrorKind kind;
    std::vector<std::string> mentions;
  };
  const auto bad = ErrorKind::bad_input, unsupported = ErrorKind::unsupported;
  const std::vector<Case> cases{
      {{{"architectures", {"GPT2LMHeadModel"}}},
       unsupported,
       {"GPT2LMHeadModel", "LlamaForCausalLM", "Qwen3"}},
      {{{"architectures", json::array()}}, bad, {"architectures", "[]"}},
      {{{"architectures", "LlamaForCausalLM"}}, bad, {"architectures", "\"LlamaForCausalLM\""}},
      {{{"architectures", nullptr}}, bad, {"architectures", "model_type"}},
      {{{"architectures", nullptr}, {"model_type", "gemma"}}, unsupported, {"model_type", "gemma"}},
      {{{"hidden_act", "gelu"}}, unsupported, {"hidden_act", "gelu"}},
      {{{"hidden_size", nullptr}}, bad, {"hidden_size is missing"}},
      {{{"hidden_size", "64"}}, bad, {"hidden_size", "\"64\""}},
      {{{"hidden_size", 64.0}}, bad, {"hidden_size", "64.0"}},
      {{{"hidden_size", 0}}, bad, {"hidden_size is 0"}},
      {{{"hidden_size", -64}}, bad, {"hidden_size is -64"}},
      {{{"vocab_size", 1ull << 63}}, bad, {"vocab_size", "9223372036854775808"}},
      {{{"vocab_size", 1ll << 31}}, bad, {"vocab_size", "2147483648"}},
      {{{"num_hidden_layers", 1000000000}}, bad, {"num_hidden_layers", "1000000000"}},
      {{{"num_key_value_heads", 3}}, bad, {"num_attention_heads 4", "num_key_value_heads 3"}},
      {{{"num_key_value_heads", 8}}, bad, {"num_attention_heads 4", "num_key_value_heads 8"}},
      {{{"head_dim", 1ll << 30}}, bad, {"head_dim 1073741824"}},
      {{{"rms_norm_eps", 0}}, bad, {"rms_norm_eps is 0"}},
      {{{"tie_word_embeddings", 1}}, bad, {"tie_word_embeddings is 1", "true or false"}},
      {{{"attention_bias", "no"}}, bad, {"attention_bias", "\"no\""}},
      {{{"rope_theta", -1}}, bad, {"rope_theta is -1"}},
      {{{"rope_scaling", 2}}, bad, {"rope_scaling is 2", "an object"}},
      {{{"rope_scaling", {{"type", "dynamic"}, {"factor", 2}}}},
       unsupported,
       {"rope_scaling.type", "dynamic"}},
      {{{"rope_scaling", {{"type", "linear"}}}}, bad, {"rope_scaling.factor is missing"}},
      {{{"rope_scaling", {{"type", "linear"}, {"rope_type", "llama3"}}}}, bad, {"linear", "llama3"}},
      {{{"rope_theta", 1}, {"rope_parameters", {{"rope_theta", 2}}}},
       bad,
       {"rope_theta is 1", "rope_parameters.rope_theta is 2"}},
      {{{"rope_scaling", {{"type", "linear"}, {"factor", 2}}},
        {"rope_parameters", {{"rope_type", "default"}}}},
       bad,
       {"disagree"}},
      {{{"rope_parameters", {{"full_attention", {{"rope_theta", 2}}}}}},
       unsupported,
       {"rope_parameters.full_attention"}},
      {{{"rope_scaling",
         {{"type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 1}}}},
       bad,
       {"high_freq_factor 1", "low_freq_factor 4"}},
      {{{"partial_rotary_factor", 0.5}}, unsupported, {"partial_rotary_factor is 0.5"}},
  };
  for (const Case& test : cases) {
    const Refusal refused = refusal(merged(config_of("LlamaForCausalLM"), test.changes));
    CAPTURE(test.changes.dump(), refused.text);
    CHECK(refused.kind == test.kind);
    for (const std::string& part : test.mentions) CHECK(refused.text.find(part) != std::string::npos);
  }
  CHECK(refusal(json::array()).kind == ErrorKind::bad_input);
  CHECK(refusal(nullptr).kind == ErrorKind::bad_input);
}

TEST_CASE("a config of any content is parsed or refused, never worse", "[model][config][fuzz]") {
  std::vector<json> seeds{json::parse(test::read_file(test::example("tiny-llama/config.json")))};
  for (const char* name :
       {"llama-llama3-rope", "llama-linear-rope-biases", "qwen2-window-from-layer-1",
        "qwen3-biases-layer-types", "phi3-longrope-long", "gemma2", "gemma3-local-rope",
        "gemma3-old-spelling", "mixtral", "qwen3-moe-mixed-layers", "deepseek-v2-groups", "deepseek-v3-yarn"})
    seeds.push_back(
        json::parse(test::read_file(test::golden("model/" + std::string{name} + "/config.json"))));
  const std::vector<json> values{nullptr,
                                 true,
                                 0,
                                 -1,
                                 1,
                                 3,
                                 1ll << 31,
                                 1ll << 62,
                                 ~0ull,
                                 1e308,
                                 -0.0,
                                 1e-320,
                                 "",
                                 "\xff\xfe",
                                 "sliding_attention",
                                 json::array(),
                                 json::object(),
                                 json::array({nullptr, 1}),
                                 {{"rope_type", 7}}};
  std::mt19937 generator{test::seed()};
  const auto below = [&](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>{0, n - 1}(generator);
  };
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    json config = seeds[below(seeds.size())];
    for (std::size_t edits = 1 + below(3); edits > 0 && !config.empty(); --edits) {
      json* object = &config;
      if (config.contains("rope_parameters") && config["rope_parameters"].is_object() && below(4) == 0)
        object = &config["rope_parameters"];
      if (object->empty()) continue;
      const auto pick = [&] {
        return std::next(object->begin(), static_cast<std::ptrdiff_t>(below(object->size())));
      };
      const auto victim = pick();
      switch (below(3)) {
        case 0:
          object->erase(victim);
          break;
        case 1:
          *victim = values[below(values.size())];
          break;
        default:
          *victim = json(*pick());
      }
    }
    try {
      const DecoderConfig parsed = parse_config(config);
      ++accepted;
      REQUIRE(parsed.sliding_window.size() == static_cast<std::size_t>(parsed.num_layers));
      REQUIRE(parsed.num_heads % parsed.num_kv_heads == 0);
      REQUIRE(parsed.head_dim % 2 == 0);
      REQUIRE(parsed.num_rotated() % 2 == 0);
      REQUIRE((parsed.num_rotated() >= 2 && parsed.num_rotated() <= parsed.head_dim));
      if (parsed.experts.count > 0) {
        REQUIRE(parsed.experts.layers.size() == static_cast<std::size_t>(parsed.num_layers));
        REQUIRE((parsed.experts.per_token >= 1 && parsed.experts.per_token <= parsed.experts.count));
      }
      if (parsed.rope.type == "longrope")
        for (const auto* factors : {&parsed.rope.short_factor, &parsed.rope.long_factor})
          REQUIRE(std::ssize(*factors) == parsed.num_rotated() / 2);
    } catch (const Error& error) {
      REQUIRE(std::string{error.what()}.find("config: ") == 0);
    }
  }
  CHECK(accepted > 1000);  // the walk stays near valid configs
}
