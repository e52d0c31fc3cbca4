// The order of down_proj's rows folded into the columns of gate and up: the same numbers in other places, the
// same model, and a way back to the byte.

#include <cmath>
#include <cstring>
#include <numeric>

#include <fmt/format.h>

#include "cli/pipeline/convert.hpp"
#include "cli/pipeline/open_model.hpp"
#include "cli/pipeline/verify_artifact.hpp"
#include "tests/cli/verified.hpp"
#include "tests/support/packed_model.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

const std::string kMlp = "model.layers.0.mlp.";
const Scheme kPlain{kU4B8, GroupSize{32}, DType::F16};

Scheme scrambled(Scheme scheme = kPlain) {
  scheme.act_order = true;
  return scheme;
}

ConvertJob job(const std::filesystem::path& source, const std::filesystem::path& destination,
               std::vector<std::string> targets, bool fold = true) {
  ConvertJob job;
  job.source = source;
  job.destination = destination;
  job.targets = std::move(targets);
  job.arrange.fold_act_order = fold;
  return job;
}

QuantizedMatrix matrix_of(const PackedCheckpoint& packed, const std::string& name) {
  for (const PackedModule& module : packed.modules())
    if (module.name == name)
      return read_columns(module.stored, module.parts(packed.checkpoint()),
                          {0, module.stored.geometry.n.value});
  FAIL("there is no " << name);
  return {};
}

std::string bytes_of(const Checkpoint& checkpoint, const std::string& name) {
  const TensorView tensor = checkpoint.tensor(name);
  return {reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size()};
}

void require_same_tensors(const std::filesystem::path& a, const std::filesystem::path& b) {
  const Checkpoint one = Checkpoint::open(a), other = Checkpoint::open(b);
  REQUIRE(one.names() == other.names());
  for (const std::string& name : one.names()) {
    CAPTURE(name);
    CHECK(one.tensor(name).dtype == other.tensor(name).dtype);
    CHECK(one.tensor(name).shape == other.tensor(name).shape);
    CHECK(bytes_of(one, name) == bytes_of(other, name));
  }
  CHECK(one.config() == other.config());
}

/// Group by group, the rows of each as they come.
std::vector<Eigen::Index> rows_by_group(const std::vector<std::int32_t>& g_idx) {
  std::vector<Eigen::Index> rows;
  const std::int32_t groups = 1 + *std::ranges::max_element(g_idx);
  for (std::int32_t group = 0; group < groups; ++group)
    for (std::size_t k = 0; k < g_idx.size(); ++k)
      if (g_idx[k] == group) rows.push_back(static_cast<Eigen::Index>(k));
  return rows;
}

bool same(const MatrixF& a, const MatrixF& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), sizeof(float) * static_cast<std::size_t>(a.size())) == 0;
}

PackedModel mlp(std::int64_t intermediate = 256) {
  PackedModel model;
  model.layer(kMlp + "gate_proj", scrambled(), 128, intermediate)
      .layer(kMlp + "up_proj", kPlain, 128, intermediate);
  model.layer(kMlp + "down_proj", scrambled(), intermediate, 128);
  model.floats(kMlp + "up_proj.bias", {intermediate}).floats("model.norm.weight", {128});
  return model;
}

// ---- logits

const nlohmann::json kLlama{{"architectures", {"LlamaForCausalLM"}},
                            {"model_type", "llama"},
                            {"hidden_act", "silu"},
                            {"hidden_size", 128},
                            {"intermediate_size", 256},
                            {"num_hidden_layers", 1},
                            {"num_attention_heads", 2},
                            {"num_key_value_heads", 1},
                            {"head_dim", 64},
                            {"vocab_size", 96},
                            {"rms_norm_eps", 1e-5},
                            {"rope_theta", 10000.0},
                            {"tie_word_embeddings", true}};

void write_llama(const std::filesystem::path& directory) {
  PackedModel model;
  const std::string layer = "model.layers.0.", attention = layer + "self_attn.";
  model.layer(attention + "q_proj", kPlain, 128, 128).layer(attention + "k_proj", scrambled(), 128, 64);
  model.layer(attention + "v_proj", kPlain, 128, 64).layer(attention + "o_proj", scrambled(), 128, 128);
  model.layer(kMlp + "gate_proj", scrambled(), 128, 256).layer(kMlp + "up_proj", scrambled(), 128, 256);
  model.layer(kMlp + "down_proj", scrambled(), 256, 128);
  for (const char* norm : {"layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"})
    model.floats(std::string{"model."} + norm + ".weight", {128});
  model.floats("model.embed_tokens.weight", {96, 128}).write(directory, kLlama);
}

std::vector<std::int32_t> some_tokens(std::int32_t count, std::int32_t vocab) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<std::int32_t>((i * 37 + 11) % static_cast<std::size_t>(vocab));
  return tokens;
}

MatrixF logits_of(const std::filesystem::path& path, std::int32_t count) {
  const OpenModel model = open_model(path);
  const Decoder decoder{model.config, *model.weights};
  const auto tokens = some_tokens(count, static_cast<std::int32_t>(model.config.vocab));
  return logits(decoder, tokens, count);
}

constexpr double kUnit = 0x1p-24;

/// n additions and products in a row are off by at most this part of the sum of magnitudes (Higham, Accuracy
/// and Stability of Numerical Algorithms, lemma 3.1), in any order.
double relative_error(std::int64_t n) {
  return static_cast<double>(n) * kUnit / (1 - static_cast<double>(n) * kUnit);
}

/// How far two float32 runs of this one-layer model may be apart, logit by logit, if they differ only in the
/// order of sums over the intermediate activation and in how vectors cut its columns: each is within one such
/// bound of the exact result. Errors are carried through in first order.
MatrixD logit_bound(const std::filesystem::path& path, std::int32_t count) {
  const OpenModel model = open_model(path);
  const Decoder decoder{model.config, *model.weights};
  const DecoderLayer layer = decoder.load_layer(0);
  std::map<std::string, MatrixD> inputs, weights;
  MatrixF x = decoder.embed(some_tokens(count, 96));
  decoder.forward(layer, count, x, [&](std::span<const Linear* const> linears, ConstMatrixRef input) {
    for (const Linear* linear : linears) {
      inputs[linear->module] = MatrixF{input}.cast<double>();
      weights[linear->module] = linear->weight.cast<double>();
    }
  });
  // Columns are tokens; weights are (K, N).
  const MatrixD& y = inputs.at(kMlp + "gate_proj");
  const MatrixD &gate = weights.at(kMlp + "gate_proj"), &up = weights.at(kMlp + "up_proj"),
                &down = weights.at(kMlp + "down_proj");
  const MatrixD g = gate.transpose() * y, u = up.transpose() * y;
  const MatrixD silu = g.array() / (1 + (-g.array()).exp());
  const MatrixD off_g = relative_error(128) * (gate.cwiseAbs().transpose() * y.cwiseAbs());
  const MatrixD off_u = relative_error(128) * (up.cwiseAbs().transpose() * y.cwiseAbs());
  // |silu'| is below 1.1; exp, quotient and product round a few times more.
  const MatrixD a = silu.cwiseProduct(u);
  const MatrixD off_a =
      1.1 * off_g.cwiseProduct(u.cwiseAbs()) + silu.cwiseAbs().cwiseProduct(off_u) + 8 * kUnit * a.cwiseAbs();
  const MatrixD state = x.cast<double>();
  const MatrixD off_x =
      down.cwiseAbs().transpose() * (relative_error(256) * a.cwiseAbs() + off_a) + kUnit * state.cwiseAbs();
  MatrixF normed;
  decoder.final_norm(x, normed);
  const MatrixD z = normed.cast<double>();
  MatrixD off_z = MatrixD::Zero(z.rows(), z.cols());
  for (Eigen::Index t = 0; t < z.cols(); ++t) {
    const double rms = std::sqrt(state.col(t).squaredNorm() / 128 + 1e-5);
    const double off_rms = std::sqrt(off_x.col(t).squaredNorm() / 128) + relative_error(128) * rms;
    for (Eigen::Index h = 0; h < z.rows(); ++h) {
      const double factor = state(h, t) == 0 ? 1 : std::abs(z(h, t) / state(h, t));  // |gain| / rms
      off_z(h, t) = factor * off_x(h, t) + std::abs(z(h, t)) * (off_rms / rms + 4 * kUnit);
    }
  }
  const MatrixD head = decoder.head().cast<double>();  // (hidden, vocab)
  return 2 * (head.cwiseAbs().transpose() * (off_z + relative_error(128) * z.cwiseAbs()));
}

}  // namespace

TEST_CASE("folding puts the same numbers into other places", "[fold]") {
  const ScratchDir dir;
  mlp().write(dir / "in");
  const PackedCheckpoint source = PackedCheckpoint::open(dir / "in");
  const QuantizedMatrix down = matrix_of(source, kMlp + "down_proj");
  const std::vector<Eigen::Index> order = rows_by_group(down.g_idx);
  const ConvertReport report =
      run_convert(job(dir / "in", dir / "out", {"marlin", "gptq", "compressed-tensors", "gptq-v2"}));
  REQUIRE(report.artifacts.size() == 4);
  for (const auto& artifact : report.artifacts) {
    CAPTURE(artifact.target);
    const PackedCheckpoint folded = PackedCheckpoint::open(artifact.directory);
    const QuantizedMatrix sorted = matrix_of(folded, kMlp + "down_proj");
    CHECK_FALSE(sorted.scheme.act_order);
    const MatrixF rows = dequantize(down);
    CHECK(same(dequantize(sorted), MatrixF{rows(order, Eigen::all)}));
    for (const char* name : {"gate_proj", "up_proj"}) {
      const MatrixF columns = dequantize(matrix_of(source, kMlp + name));
      CHECK(same(dequantize(matrix_of(folded, kMlp + name)), MatrixF{columns(Eigen::all, order)}));
    }
    const std::string before = bytes_of(source.checkpoint(), kMlp + "up_proj.bias");
    std::string bias;
    for (const Eigen::Index k : order) bias += before.substr(2 * static_cast<std::size_t>(k), 2);
    CHECK(bytes_of(folded.checkpoint(), kMlp + "up_proj.bias") == bias);
    for (const ConvertedLayer& layer : artifact.layers) {
      CHECK(layer.exactness == "exact");
      CHECK(mentions(layer.notes.front(), layer.module == kMlp + "down_proj"
                                              ? "rows sorted by group"
                                              : "in the order of down_proj's rows"));
    }
    require_verified(artifact.directory, dir / "in");
    run_convert(job(artifact.directory, dir / ("back-" + artifact.target), {"origin"}, false));
    require_same_tensors(dir / "in", dir / ("back-" + artifact.target));
  }
}

TEST_CASE("a folded artifact stays one on the way through other formats", "[fold]") {
  const ScratchDir dir;
  mlp(224).write(dir / "in");  // padded to 256 for marlin
  run_convert(job(dir / "in", dir / "marlin", {"marlin"}));
  const ConvertReport report = run_convert(job(dir / "marlin", dir / "ct", {"compressed-tensors"}, false));
  CHECK(mentions(report.artifacts[0].layers[0].notes.front(), "still in the order of"));
  require_verified(dir / "ct", dir / "marlin");
  run_convert(job(dir / "ct", dir / "back", {"origin"}, false));
  require_same_tensors(dir / "in", dir / "back");
  // As floats the order is in the weights: an equivalent model, not the source's.
  run_convert(job(dir / "marlin", dir / "float", {"float"}, false));
  const QuantizedMatrix down = matrix_of(PackedCheckpoint::open(dir / "in"), kMlp + "down_proj");
  const MatrixF rows = dequantize(down)(rows_by_group(down.g_idx), Eigen::all);
  const std::string floats = bytes_of(Checkpoint::open(dir / "float"), kMlp + "down_proj.weight");
  REQUIRE(floats.size() == 2 * 256 * 128);
  std::int64_t wrong = 0;
  for (std::size_t n = 0; n < 128; ++n)
    for (std::size_t k = 0; k < 256; ++k) {
      std::uint16_t bits;
      std::memcpy(&bits, floats.data() + 2 * (n * 256 + k), 2);
      const auto row = static_cast<Eigen::Index>(k), col = static_cast<Eigen::Index>(n);
      wrong += f16_to_float(bits) != (k < 224 ? rows(row, col) : 0);
    }
  CHECK(wrong == 0);
}

TEST_CASE("gate and up in one layer are put in order by halves, experts each by themselves", "[fold]") {
  const ScratchDir dir;
  PackedModel model;
  model.layer(kMlp + "gate_up_proj", kPlain, 128, 512).layer(kMlp + "down_proj", scrambled(), 256, 128);
  const std::string expert = "model.layers.0.moe.experts.3.";
  model.layer(expert + "w1", kPlain, 128, 128).layer(expert + "w3", kPlain, 128, 128);
  model.layer(expert + "w2", scrambled(), 128, 128);
  model.write(dir / "in");
  const PackedCheckpoint source = PackedCheckpoint::open(dir / "in");
  run_convert(job(dir / "in", dir / "out", {"marlin"}));
  const PackedCheckpoint folded = PackedCheckpoint::open(dir / "out");
  std::vector<Eigen::Index> order = rows_by_group(matrix_of(source, kMlp + "down_proj").g_idx);
  for (std::size_t i = 0; i < 256; ++i) order.push_back(256 + order[i]);
  const MatrixF both = dequantize(matrix_of(source, kMlp + "gate_up_proj"));
  CHECK(same(dequantize(matrix_of(folded, kMlp + "gate_up_proj")), MatrixF{both(Eigen::all, order)}));
  const MatrixF gate = dequantize(matrix_of(source, expert + "w1"));
  CHECK(same(dequantize(matrix_of(folded, expert + "w1")),
             MatrixF{gate(Eigen::all, rows_by_group(matrix_of(source, expert + "w2").g_idx))}));
  run_convert(job(dir / "out", dir / "back", {"origin"}, false));
  require_same_tensors(dir / "in", dir / "back");
}

TEST_CASE("folded rows can be divided among ranks", "[fold]") {
  const ScratchDir dir;
  mlp().write(dir / "in");
  run_convert(job(dir / "in", dir / "whole", {"marlin"}));
  ConvertJob divided = job(dir / "in", dir / "parts", {"marlin"});
  divided.arrange.ranks = 2;
  divided.arrange.fuse = false;
  run_convert(divided);
  const PackedCheckpoint whole = PackedCheckpoint::open(dir / "whole");
  const MatrixF down = dequantize(matrix_of(whole, kMlp + "down_proj")),
                gate = dequantize(matrix_of(whole, kMlp + "gate_proj"));
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const auto directory = dir / fmt::format("parts/rank-{}-of-2", rank);
    const PackedCheckpoint part = PackedCheckpoint::open(directory);
    CHECK(same(dequantize(matrix_of(part, kMlp + "down_proj")), down.middleRows(128 * rank, 128)));
    CHECK(same(dequantize(matrix_of(part, kMlp + "gate_proj")), gate.middleCols(128 * rank, 128)));
    require_verified(directory, dir / "in");
  }
}

TEST_CASE("an order that something else may depend on is left alone, and the report says so", "[fold]") {
  const ScratchDir dir;
  struct Case {
    const char* name;
    PackedModel model;
    const char* why;
  };
  PackedModel norm = mlp(), alone, unequal;
  norm.floats(kMlp + "ffn_layernorm.weight", {256});
  alone.layer(kMlp + "down_proj", scrambled(), 256, 128).floats(kMlp + "gate_proj.weight", {256, 128});
  unequal.layer(kMlp + "gate_proj", kPlain, 128, 256).layer(kMlp + "up_proj", kPlain, 128, 256);
  QuantizedMatrix down = unequal.random(scrambled(), 256, 128);
  *std::ranges::find(down.g_idx, 1) = 0;
  unequal.layer(kMlp + "down_proj", down);
  for (const Case& c : {Case{"norm", norm, "ffn_layernorm.weight may depend on it"},
                        Case{"alone", alone, "has no packed gate and up projections"},
                        Case{"unequal", unequal, "its groups do not have 32 rows each"}}) {
    CAPTURE(c.name);
    c.model.write(dir / c.name);
    const ConvertReport report =
        run_convert(job(dir / c.name, dir / (std::string{c.name} + "-out"), {"gptq"}));
    CHECK(std::ranges::any_of(report.notes, [&](const std::string& note) { return mentions(note, c.why); }));
    const QuantizedMatrix before = matrix_of(PackedCheckpoint::open(dir / c.name), kMlp + "down_proj");
    const QuantizedMatrix after =
        matrix_of(PackedCheckpoint::open(dir / (std::string{c.name} + "-out")), kMlp + "down_proj");
    CHECK(identical(before, after));
  }
}

TEST_CASE("a folded model computes the same logits", "[fold]") {
  const ScratchDir dir;
  write_llama(dir / "in");
  run_convert(job(dir / "in", dir / "plain", {"marlin"}, false));
  run_convert(job(dir / "in", dir / "folded", {"marlin"}));
  const std::vector<std::int32_t> g_idx =
      matrix_of(PackedCheckpoint::open(dir / "in"), kMlp + "down_proj").g_idx;
  REQUIRE_FALSE(std::ranges::is_sorted(g_idx));
  constexpr std::int32_t kTokens = 12;
  const MatrixD one = logits_of(dir / "plain", kTokens).cast<double>(),
                other = logits_of(dir / "folded", kTokens).cast<double>();
  const MatrixD bound = logit_bound(dir / "in", kTokens);
  const MatrixD apart = (one - other).cwiseAbs();
  const double size = one.cwiseAbs().maxCoeff();
  CAPTURE(size, bound.maxCoeff(), apart.maxCoeff());
  CHECK((apart.array() <= bound.array()).all());
  // The bound is no larger than it has to be: rows in an order that gate and up do not have break it.
  const PackedCheckpoint source = PackedCheckpoint::open(dir / "in"),
                         folded = PackedCheckpoint::open(dir / "folded");
  PackedModel half;
  for (const PackedModule& module : source.modules())
    half.layer(module.name, matrix_of(module.name == kMlp + "down_proj" ? folded : source, module.name));
  for (const std::string& name : source.checkpoint().names())
    if (name.ends_with(".weight")) half.tensor(name, source.checkpoint().tensor(name));
  half.write(dir / "half", kLlama);
  const MatrixD wrong = (logits_of(dir / "half", kTokens).cast<double>() - one).cwiseAbs();
  CAPTURE(wrong.maxCoeff());
  CHECK((wrong.array() > bound.array()).count() > wrong.size() / 2);
}

TEST_CASE("an act-order checkpoint of another tool computes the same when folded", "[fold]") {
  const auto source = std::filesystem::path{MPK_SOURCE_DIR}.parent_path() / "shared" / "checkpoints" /
                      "gptq-v1-sym-g128-desc_act";
  if (!std::filesystem::exists(source)) return;
  const ScratchDir dir;
  const ConvertReport report = run_convert(job(source, dir / "folded", {"marlin"}));
  CHECK(std::ranges::count_if(report.artifacts[0].layers, [](const ConvertedLayer& layer) {
          return !layer.notes.empty() && mentions(layer.notes.front(), "rows sorted by group");
        }) == 4);
  require_verified(dir / "folded", source);
  const MatrixF one = logits_of(source, 48), other = logits_of(dir / "folded", 48);
  // Four layers; in each the sums over 256 inputs of gate and up and over 768 of down may round differently.
  const double bound = 2 * 4 * relative_error(2 * 256 + 768) * static_cast<double>(one.cwiseAbs().maxCoeff());
  const double apart = static_cast<double>((one - other).cwiseAbs().maxCoeff());
  CAPTURE(bound, apart);
  CHECK(apart <= bound);
  run_convert(job(dir / "folded", dir / "back", {"origin"}, false));
  require_same_tensors(source, dir / "back");
}
