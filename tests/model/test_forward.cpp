// What the forward pass promises beyond its numbers: the same bits whatever the threads and the company.

#include <map>
#include <omp.h>
#include <string>
#include <utility>
#include <vector>

#include "model/decoder.hpp"
#include "model/layer.hpp"
#include "packer/format/error.hpp"
#include "random_decoder.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

namespace {

/// Restores the number of OpenMP threads.
class Threads {
 public:
  explicit Threads(int count) : before_{omp_get_max_threads()} { omp_set_num_threads(count); }
  ~Threads() { omp_set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

std::vector<std::int32_t> random_tokens(const DecoderConfig& config, std::int64_t count, unsigned seed) {
  std::mt19937 generator{seed};
  std::uniform_int_distribution<std::int32_t> id{0, static_cast<std::int32_t>(config.vocab) - 1};
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (auto& token : tokens) token = id(generator);
  return tokens;
}

std::span<const std::int32_t> window(const std::vector<std::int32_t>& tokens, std::int64_t index,
                                     std::int64_t length) {
  return std::span{tokens}.subspan(static_cast<std::size_t>(index * length),
                                   static_cast<std::size_t>(length));
}

/// Every switch of the families at once.
DecoderConfig all_switches() {
  DecoderConfig config = test::small_config();
  config.qkv_bias = config.o_bias = config.mlp_bias = config.qk_norm = true;
  return config;
}

/// Phi's fused linears, Gemma's norms, scales and softcaps, experts in two layers of three: no family has
/// all.
DecoderConfig all_extensions() {
  DecoderConfig config = test::small_config();
  config.fused_qkv = config.fused_gate_up = config.output_norms = true;
  config.activation = Activation::gelu_tanh;
  config.norm_offset = 0.5;
  config.embedding_scale = 1.5;
  config.attention_scale = 0.3;
  config.attention_softcap = 4.0;
  config.logit_softcap = 3.0;
  config.rotary_dim = 10;
  config.sliding_rope = RopeConfig{.theta = 100.0};
  config.experts.count = 5;
  config.experts.per_token = 2;
  config.experts.intermediate = 21;
  config.experts.layers = {true, false, true};
  return config;
}

/// DeepSeek's.
DecoderConfig all_latent() {
  DecoderConfig config = test::small_config();
  config.latent = LatentAttention{.q_rank = 18, .kv_rank = 11, .rope_dim = 6, .value_dim = 9};
  config.num_kv_heads = config.num_heads;
  config.qkv_bias = config.o_bias = config.mlp_bias = true;
  config.experts.count = 6;
  config.experts.per_token = 2;
  config.experts.intermediate = 21;
  config.experts.shared_intermediate = 33;
  config.experts.sigmoid = config.experts.selection_bias = config.experts.normalized = true;
  config.experts.groups = 3;
  config.experts.groups_per_token = config.experts.scores_per_group = 2;
  config.experts.scale = 1.5;
  config.experts.layers = {false, true, true};
  return config;
}

DecoderConfig any_switches() {
  return std::vector{all_switches(), all_extensions(), all_latent()}[GENERATE(0u, 1u, 2u)];
}

/// Of the Error that `f` throws; empty if it throws none.
template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// What an observer saw: module names of each group, and its inputs side by side.
struct Sighting {
  std::vector<std::string> modules;
  MatrixF inputs;
};

}  // namespace

TEST_CASE("logits are the same bits for any number of threads", "[model][forward]") {
  const DecoderConfig config = any_switches();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  const std::int64_t length = GENERATE(1, 7, 130);
  const auto tokens = random_tokens(config, 3 * length, test::seed());
  const auto run = [&](int threads) {
    const Threads set{threads};
    return logits(decoder, tokens, length);
  };
  const MatrixF one = run(1);
  CHECK(run(2) == one);
  CHECK(run(5) == one);
}

TEST_CASE("a window's logits are the same bits alone and among others", "[model][forward]") {
  const DecoderConfig config = any_switches();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  // 1 and 7: many windows in one tile's width; 530: a tile and a bit; 1400: more windows than one chunk
  // takes.
  const std::int64_t length = GENERATE(1, 7, 65, 530, 1400);
  const std::int64_t windows = 4;
  CAPTURE(length, windows_per_chunk(config, length));
  const auto tokens = random_tokens(config, windows * length, test::seed());
  const MatrixF together = logits(decoder, tokens, length);
  for (std::int64_t w = 0; w < windows; ++w)
    CHECK(logits(decoder, window(tokens, w, length), length) == together.middleCols(w * length, length));
}

TEST_CASE("a token's logits do not depend on later tokens or other windows", "[model][forward]") {
  const DecoderConfig config = any_switches();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  const std::int64_t length = 70, changed = 30;
  auto tokens = random_tokens(config, 2 * length, test::seed());
  const MatrixF before = logits(decoder, tokens, length);
  auto& token = tokens[static_cast<std::size_t>(changed)];
  token = (token + 1) % static_cast<std::int32_t>(config.vocab);
  const MatrixF after = logits(decoder, tokens, length);
  // An expert's tokens are multiplied side by side, and a later one may decide how many there are: some BLAS
  // kernels round the last columns of a product otherwise.
  const float rounding = config.experts.count > 0 ? 1e-5f * before.cwiseAbs().maxCoeff() : 0.0f;
  CHECK((after - before).leftCols(changed).cwiseAbs().maxCoeff() <= rounding);
  CHECK(after.rightCols(length) == before.rightCols(length));
  for (std::int64_t later = changed; later < length; ++later) CHECK(after.col(later) != before.col(later));
}

TEST_CASE("the observer sees every group's input once, in order, and changes nothing", "[model][forward]") {
  const DecoderConfig config = all_switches();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  const DecoderLayer layer = decoder.load_layer(1);
  const std::int64_t length = 1400, windows = 4;
  REQUIRE(windows_per_chunk(config, length) < windows);  // so that groups come in chunks
  const MatrixF x = decoder.embed(random_tokens(config, windows * length, test::seed()));

  std::vector<Sighting> seen;
  MatrixF observed = x, unobserved = x;
  decoder.forward(layer, length, observed, [&](std::span<const Linear* const> linears, ConstMatrixRef input) {
    Sighting sighting;
    for (const Linear* linear : linears) {
      CHECK(input.rows() == linear->weight.rows());
      sighting.modules.push_back(linear->module.substr(linear->module.rfind('.') + 1));
    }
    sighting.inputs = input;
    seen.push_back(std::move(sighting));
  });
  decoder.forward(layer, length, unobserved);
  CHECK(observed == unobserved);

  const std::vector<std::vector<std::string>> groups{
      {"q_proj", "k_proj", "v_proj"}, {"o_proj"}, {"gate_proj", "up_proj"}, {"down_proj"}};
  REQUIRE(seen.size() % groups.size() == 0);
  std::vector<Eigen::Index> columns(groups.size());
  for (std::size_t i = 0; i < seen.size(); ++i) {
    CHECK(seen[i].modules == groups[i % groups.size()]);
    columns[i % groups.size()] += seen[i].inputs.cols();
  }
  CHECK(columns == std::vector<Eigen::Index>(groups.size(), windows * length));
}

TEST_CASE("the stages one by one, all windows at a time, are the forward pass", "[model][forward]") {
  const DecoderConfig config = all_switches();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  const DecoderLayer layer = decoder.load_layer(1);
  const std::int64_t length = 1400;
  MatrixF whole = decoder.embed(random_tokens(config, 4 * length, test::seed()));
  MatrixF staged = whole;
  decoder.forward(layer, length, whole);

  LayerStages stages{config, layer, length};
  MatrixF input, heads, activated;
  stages.attention_input(staged, input);
  stages.attention(input, heads);
  stages.add_attention(heads, staged);
  stages.mlp_input(staged, input);
  stages.activation(input, activated);
  stages.add_mlp(activated, staged);
  CHECK(staged == whole);
}

TEST_CASE("the observer sees every expert's own tokens", "[model][forward]") {
  const DecoderConfig config = all_extensions();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  DecoderLayer layer = decoder.load_layer(2);
  const std::int64_t length = 300, windows = 2;
  MatrixF x = decoder.embed(random_tokens(config, windows * length, test::seed()));
  std::map<std::string, Eigen::Index> columns;
  decoder.forward(layer, length, x, [&](std::span<const Linear* const> linears, ConstMatrixRef input) {
    for (const Linear* linear : linears) columns[linear->module] += input.cols();
  });
  Eigen::Index routed = 0;
  for (const Expert& expert : layer.experts) {
    CHECK(columns[expert.gate.module] == columns[expert.down.module]);
    CHECK(columns[expert.gate.module] == columns[expert.up.module]);
    routed += columns[expert.gate.module];
  }
  CHECK(routed == windows * length * config.experts.per_token);
  CHECK(layer.experts[4].up.module == "model.layers.2.mlp.experts.4.up_proj");
  CHECK(layer.linears().size() == linear_specs(config, 2).size());
}

TEST_CASE("only configs without extensions are plain", "[model][config]") {
  CHECK(test::small_config().is_plain_dense());
  CHECK(all_switches().is_plain_dense());
  CHECK_FALSE(all_extensions().is_plain_dense());
  CHECK_FALSE(all_latent().is_plain_dense());
  DecoderConfig config = test::small_config();
  config.rope.type = "longrope";
  CHECK_FALSE(config.is_plain_dense());
}

TEST_CASE("every switch of latent attention and of its experts changes the logits", "[model][forward]") {
  const DecoderConfig plain = all_latent();
  DecoderConfig other = plain;
  SECTION("rotated pairs") {
    other.latent->interleaved = false;
  }
  SECTION("scale") {
    other.experts.scale = 1;
  }
  SECTION("normalization") {
    other.experts.normalized = false;
  }
  SECTION("softmax") {
    other.experts.sigmoid = false;
  }
  SECTION("bias") {
    other.experts.selection_bias = false;
  }
  SECTION("groups") {
    other.experts.groups_per_token = 1;
  }
  SECTION("rating of groups") {
    other.experts.scores_per_group = 1;
  }
  SECTION("shared experts") {
    other.experts.shared_intermediate = 0;
  }
  const auto tokens = random_tokens(plain, 40, test::seed());
  const auto run = [&](const DecoderConfig& config) {
    const test::RandomWeights weights{config, test::seed()};
    return logits(Decoder{config, weights}, tokens, 40);
  };
  CHECK((run(plain) - run(other)).cwiseAbs().maxCoeff() > 1e-3f);
}

TEST_CASE("the observer sees what every linear of latent attention reads", "[model][forward]") {
  const DecoderConfig config = all_latent();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  DecoderLayer layer = decoder.load_layer(1);
  MatrixF x = decoder.embed(random_tokens(config, 40, test::seed()));
  std::vector<std::string> seen;
  decoder.forward(layer, 20, x, [&](std::span<const Linear* const> linears, ConstMatrixRef input) {
    for (const Linear* linear : linears) {
      CHECK(linear->weight.rows() == input.rows());
      if (linear->module.find(".experts.") == std::string::npos)
        seen.push_back(linear->module.substr(std::string{"model.layers.1."}.size()));
    }
  });
  CHECK(seen == std::vector<std::string>{"self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa",
                                         "self_attn.q_b_proj", "self_attn.kv_b_proj", "self_attn.o_proj",
                                         "mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj",
                                         "mlp.shared_experts.down_proj"});
}

TEST_CASE("each switch of a family changes the logits", "[model][forward]") {
  // Weights come by name, so two configs share all they both have.
  const DecoderConfig plain = test::small_config();
  DecoderConfig other = plain;
  SECTION("qkv bias") {
    other.qkv_bias = true;
  }
  SECTION("o bias") {
    other.o_bias = true;
  }
  SECTION("mlp bias") {
    other.mlp_bias = true;
  }
  SECTION("qk norm") {
    other.qk_norm = true;
  }
  SECTION("window") {
    other.sliding_window[1] = 6;
  }
  SECTION("tied embeddings") {
    other.tied_embeddings = true;
  }
  SECTION("rope theta") {
    other.rope.theta = 20000.0;
  }
  SECTION("norm eps") {
    other.norm_eps = 1e-1;
  }
  SECTION("norm offset") {
    other.norm_offset = 1;
  }
  SECTION("output norms") {
    other.output_norms = true;
  }
  SECTION("activation") {
    other.activation = Activation::gelu_tanh;
  }
  SECTION("embedding scale") {
    other.embedding_scale = 3;
  }
  SECTION("attention scale") {
    other.attention_scale = 0.1;
  }
  SECTION("attention softcap") {
    other.attention_softcap = 2;
  }
  SECTION("logit softcap") {
    other.logit_softcap = 5;
  }
  SECTION("partial rotation") {
    other.rotary_dim = 8;
  }
  SECTION("rope of windows") {
    other.sliding_rope = RopeConfig{.theta = 100.0};
  }
  SECTION("experts") {
    other.experts.count = other.experts.per_token = 2;
    other.experts.intermediate = 75;
    other.experts.layers = {false, true, false};
  }
  const auto tokens = random_tokens(plain, 20, test::seed());
  const auto run = [&](const DecoderConfig& config) {
    const test::RandomWeights weights{config, test::seed()};
    return logits(Decoder{config, weights}, tokens, 20);
  };
  CHECK((run(plain) - run(other)).cwiseAbs().maxCoeff() > 1e-3f);
}

TEST_CASE("chunks are bounded in tokens and bytes, and hold one window at least", "[model][forward]") {
  DecoderConfig config = test::small_config();
  CHECK(windows_per_chunk(config, 1) >= 1024);
  CHECK(windows_per_chunk(config, 1 << 20) == 1);
  config.intermediate = std::int64_t{1} << 30;
  CHECK(windows_per_chunk(config, 1) == 1);
}

TEST_CASE("what does not fit is refused", "[model][forward]") {
  const DecoderConfig config = test::small_config();
  test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};

  CHECK_THROWS_AS(decoder.embed(std::vector<std::int32_t>{0, 601}), Error);
  CHECK_THROWS_AS(decoder.embed(std::vector<std::int32_t>{-1}), Error);
  CHECK_THROWS_AS(decoder.load_layer(-1), Error);
  CHECK_THROWS_AS(decoder.load_layer(3), Error);
  MatrixF x = decoder.embed(random_tokens(config, 10, test::seed()));
  CHECK_THROWS_AS(decoder.forward(decoder.load_layer(0), 3, x), Error);
  CHECK_THROWS_AS(decoder.forward(decoder.load_layer(0), 0, x), Error);

  DecoderConfig wider = config;
  wider.intermediate += 1;
  const std::string mismatch = message_of([&] { Decoder{wider, weights}.load_layer(0); });
  for (const char* part : {"gate_proj.weight", "(52, 75)", "(52, 76)"})
    CHECK(mismatch.find(part) != std::string::npos);
  weights.missing = "lm_head.weight";
  CHECK(message_of([&] { Decoder{config, weights}; }).find("lm_head.weight") != std::string::npos);
  DecoderConfig tied = config;
  tied.tied_embeddings = true;
  CHECK_NOTHROW(Decoder{tied, weights});
}

TEST_CASE("no tokens, no work", "[model][forward]") {
  const DecoderConfig config = test::small_config();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  CHECK(logits(decoder, {}, 8).cols() == 0);
}
