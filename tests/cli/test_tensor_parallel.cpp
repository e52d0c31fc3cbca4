// An artifact per rank: what the ranks hold together is the source, to the bit, and what cannot be divided is
// refused in the words of `plan`.

#include <cstdlib>
#include <cstring>
#include <map>
#include <sys/wait.h>
#include <tuple>

#include <fmt/format.h>

#include "cli/pipeline/convert.hpp"
#include "cli/pipeline/packed_checkpoint.hpp"
#include "cli/pipeline/plan.hpp"
#include "cli/pipeline/verify_artifact.hpp"
#include "tests/cli/verified.hpp"
#include "tests/support/packed_model.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

constexpr const char* kLayer = "model.layers.0.";
const nlohmann::json kHeads{
    {"num_attention_heads", 8}, {"num_key_value_heads", 2}, {"head_dim", 64}, {"hidden_size", 256}};

Scheme groups_of_128(ScalarType type = kU4B8) {
  Scheme scheme{type, GroupSize{128}, DType::F16};
  if (type.bias == 0) scheme.zero_points = ZeroPoints::integer;
  return scheme;
}

Scheme act_order(Scheme scheme) {
  scheme.act_order = true;
  return scheme;
}

ConvertJob job(const std::filesystem::path& source, const std::filesystem::path& destination,
               std::vector<std::string> targets, std::int64_t ranks, bool fuse = false) {
  ConvertJob job;
  job.source = source;
  job.destination = destination;
  job.targets = std::move(targets);
  job.arrange.ranks = ranks;
  job.arrange.fuse = fuse;
  job.zeros = "v2";
  return job;
}

MatrixF weight_of(const PackedCheckpoint& packed, const std::string& name) {
  for (const PackedModule& module : packed.modules())
    if (module.name == name) {
      const ColumnRange all{0, module.stored.geometry.n.value};
      return dequantize(read_columns(module.stored, module.parts(packed.checkpoint()), all));
    }
  FAIL("there is no " << name);
  return {};
}

MatrixF beside(const std::vector<MatrixF>& parts) {
  MatrixF all(parts.front().rows(), 0);
  for (const MatrixF& part : parts) {
    all.conservativeResize(Eigen::NoChange, all.cols() + part.cols());
    all.rightCols(part.cols()) = part;
  }
  return all;
}

MatrixF below(const std::vector<MatrixF>& parts) {
  MatrixF all(0, parts.front().cols());
  for (const MatrixF& part : parts) {
    all.conservativeResize(all.rows() + part.rows(), Eigen::NoChange);
    all.bottomRows(part.rows()) = part;
  }
  return all;
}

bool same(const MatrixF& a, const MatrixF& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), sizeof(float) * static_cast<std::size_t>(a.size())) == 0;
}

std::vector<PackedCheckpoint> open_ranks(const std::filesystem::path& directory, std::int64_t ranks) {
  std::vector<PackedCheckpoint> opened;
  for (std::int64_t rank = 0; rank < ranks; ++rank)
    opened.push_back(PackedCheckpoint::open(directory / fmt::format("rank-{}-of-{}", rank, ranks), "v2"));
  return opened;
}

std::vector<MatrixF> weights_of(const std::vector<PackedCheckpoint>& ranks, const std::string& name) {
  std::vector<MatrixF> weights;
  for (const PackedCheckpoint& rank : ranks) weights.push_back(weight_of(rank, name));
  return weights;
}

std::string bytes_of(const Checkpoint& checkpoint, const std::string& name) {
  const TensorView tensor = checkpoint.tensor(name);
  return {reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size()};
}

std::string beside(const std::vector<PackedCheckpoint>& ranks, const std::string& name) {
  std::string bytes;
  for (const PackedCheckpoint& rank : ranks) bytes += bytes_of(rank.checkpoint(), name);
  return bytes;
}

/// Two key heads, biases everywhere, one layer whose MLP is left in floats.
void write_llama(const std::filesystem::path& directory, const char* format, const Scheme& scheme) {
  PackedModel model{format};
  const std::string attention = std::string{kLayer} + "self_attn.", mlp = std::string{kLayer} + "mlp.";
  const Scheme columns = scheme.type == kU4B8 ? act_order(scheme) : scheme;
  model.layer(attention + "q_proj", scheme, 256, 512).layer(attention + "k_proj", scheme, 256, 128);
  model.layer(attention + "v_proj", scheme, 256, 128).layer(attention + "o_proj", scheme, 512, 256);
  const QuantizedMatrix gate = model.random(columns, 256, 512);
  QuantizedMatrix up = model.random(columns, 256, 512);
  up.g_idx = gate.g_idx;  // quantizers see one input, so the order is one
  model.layer(mlp + "gate_proj", gate).layer(mlp + "up_proj", up);
  model.layer(mlp + "down_proj", scheme, 512, 256);
  model.floats(attention + "q_proj.bias", {512}).floats(attention + "k_proj.bias", {128});
  model.floats(attention + "v_proj.bias", {128}).floats(mlp + "down_proj.bias", {256});
  model.floats("model.layers.1.mlp.up_proj.weight", {512, 256});
  model.floats("model.layers.1.mlp.down_proj.weight", {256, 512});
  model.floats("model.layers.1.mlp.down_proj.bias", {256});
  model.floats("model.embed_tokens.weight", {32, 256}).floats("lm_head.weight", {32, 256});
  model.floats("model.norm.weight", {256});
  model.write(directory, kHeads);
}

}  // namespace

TEST_CASE("the ranks' parts side by side are the source, to the bit", "[tensor-parallel]") {
  const std::int64_t ranks = GENERATE(2, 4);
  const bool has_zeros = GENERATE(false, true);
  const char* format = has_zeros ? "gptq-v2" : "gptq";
  const ScratchDir dir;
  write_llama(dir / "in", format, groups_of_128(has_zeros ? kU4 : kU4B8));
  const PackedCheckpoint source = PackedCheckpoint::open(dir / "in", "v2");
  const std::vector<std::string> targets{"marlin", format, "compressed-tensors"};
  run_convert(job(dir / "in", dir / "out", targets, ranks));
  for (const std::string& target : targets) {
    CAPTURE(ranks, target);
    const auto parts = open_ranks(dir / ("out/" + target), ranks);
    const std::string attention = std::string{kLayer} + "self_attn.", mlp = std::string{kLayer} + "mlp.";
    for (const std::string& name : {attention + "q_proj", mlp + "gate_proj", mlp + "up_proj"})
      CHECK(same(beside(weights_of(parts, name)), weight_of(source, name)));
    for (const std::string& name : {attention + "o_proj", mlp + "down_proj"})
      CHECK(same(below(weights_of(parts, name)), weight_of(source, name)));
    for (const std::string& name : {attention + "k_proj", attention + "v_proj"}) {
      const std::vector<MatrixF> heads = weights_of(parts, name);
      const std::size_t copies = heads.size() / 2;  // of two heads
      CHECK(same(beside({heads[0], heads[copies]}), weight_of(source, name)));
      for (std::size_t rank = 0; rank < heads.size(); ++rank)
        CHECK(same(heads[rank], heads[rank / copies * copies]));
    }
    // Biases: with the columns, or once.
    CHECK(beside(parts, attention + "q_proj.bias") ==
          bytes_of(source.checkpoint(), attention + "q_proj.bias"));
    for (const std::string& name :
         {mlp + "down_proj.bias", std::string{"model.layers.1.mlp.down_proj.bias"}}) {
      CHECK(bytes_of(parts[0].checkpoint(), name) == bytes_of(source.checkpoint(), name));
      for (std::size_t rank = 1; rank < parts.size(); ++rank)
        CHECK(bytes_of(parts[rank].checkpoint(), name) == std::string(512, '\0'));
    }
    // Float layers: the first dimension of `up` and the second of `down`.
    CHECK(beside(parts, "model.layers.1.mlp.up_proj.weight") ==
          bytes_of(source.checkpoint(), "model.layers.1.mlp.up_proj.weight"));
    std::string rows;
    const std::size_t width = static_cast<std::size_t>(1024 / ranks);
    for (std::size_t n = 0; n < 256; ++n)
      for (const PackedCheckpoint& part : parts)
        rows += bytes_of(part.checkpoint(), "model.layers.1.mlp.down_proj.weight").substr(n * width, width);
    CHECK(rows == bytes_of(source.checkpoint(), "model.layers.1.mlp.down_proj.weight"));
    for (std::size_t rank = 0; rank < parts.size(); ++rank) {
      for (const char* name : {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"})
        CHECK(bytes_of(parts[rank].checkpoint(), name) == bytes_of(source.checkpoint(), name));
      require_verified(parts[rank].checkpoint().directory(), dir / "in");
      const Manifest manifest = read_manifest(parts[rank].checkpoint().directory());
      REQUIRE(manifest.tensor_parallel);
      CHECK(manifest.tensor_parallel->ranks == ranks);
      CHECK(manifest.tensor_parallel->rank == static_cast<std::int64_t>(rank));
    }
  }
}

TEST_CASE("floats are divided as the codes are", "[tensor-parallel]") {
  const ScratchDir dir;
  write_llama(dir / "in", "gptq", groups_of_128());
  run_convert(job(dir / "in", dir / "whole", {"float"}, 1));
  run_convert(job(dir / "in", dir / "parts", {"float"}, 2));
  const Checkpoint whole = Checkpoint::open(dir / "whole");
  const auto parts = open_ranks(dir / "parts", 2);
  const std::string up = std::string{kLayer} + "mlp.up_proj.weight",
                    down = std::string{kLayer} + "mlp.down_proj.weight";
  CHECK(beside(parts, up) == bytes_of(whole, up));
  std::string rows;
  for (std::size_t n = 0; n < 256; ++n)
    for (const PackedCheckpoint& part : parts) rows += bytes_of(part.checkpoint(), down).substr(n * 512, 512);
  CHECK(rows == bytes_of(whole, down));
}

TEST_CASE("a rank's queries, keys and values are one layer on request", "[tensor-parallel]") {
  const std::int64_t ranks = GENERATE(1, 4);
  const ScratchDir dir;
  write_llama(dir / "in", "gptq", groups_of_128());
  const PackedCheckpoint source = PackedCheckpoint::open(dir / "in", "v2");
  run_convert(job(dir / "in", dir / "apart", {"gptq"}, ranks));
  run_convert(job(dir / "in", dir / "fused", {"marlin"}, ranks, true));
  const std::string attention = std::string{kLayer} + "self_attn.", mlp = std::string{kLayer} + "mlp.";
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const auto place = [&](const char* name) {
      return ranks == 1 ? dir / name : dir / name / fmt::format("rank-{}-of-{}", rank, ranks);
    };
    const PackedCheckpoint apart = PackedCheckpoint::open(place("apart"), "v2");
    const PackedCheckpoint fused = PackedCheckpoint::open(place("fused"), "v2");
    CHECK(same(weight_of(fused, attention + "qkv_proj"),
               beside({weight_of(apart, attention + "q_proj"), weight_of(apart, attention + "k_proj"),
                       weight_of(apart, attention + "v_proj")})));
    CHECK(bytes_of(fused.checkpoint(), attention + "qkv_proj.bias") ==
          bytes_of(apart.checkpoint(), attention + "q_proj.bias") +
              bytes_of(apart.checkpoint(), attention + "k_proj.bias") +
              bytes_of(apart.checkpoint(), attention + "v_proj.bias"));
    CHECK_FALSE(fused.checkpoint().contains(attention + "q_proj.qweight"));
    CHECK(same(weight_of(fused, attention + "o_proj"), weight_of(apart, attention + "o_proj")));
    require_verified(place("fused"), dir / "in");
    // It is not the source in other bytes any more.
    CHECK(mentions(error_of(ErrorKind::unsupported,
                            [&] { run_convert(job(place("fused"), dir / "back", {"origin"}, 1)); }),
                   "parts of its source's"));
  }
}

TEST_CASE("each of the layers in one is divided by itself", "[tensor-parallel]") {
  const ScratchDir dir;
  PackedModel model{"gptq"};
  const std::string qkv = std::string{kLayer} + "self_attn.qkv_proj",
                    gate_up = std::string{kLayer} + "mlp.gate_up_proj";
  model.layer(qkv, groups_of_128(), 256, 768).layer(gate_up, groups_of_128(), 256, 512);
  model.floats(gate_up + ".bias", {512});
  model.write(dir / "in", kHeads);
  const PackedCheckpoint source = PackedCheckpoint::open(dir / "in", "v2");
  run_convert(job(dir / "in", dir / "out", {"marlin"}, 4));
  const auto parts = open_ranks(dir / "out", 4);
  for (std::int64_t rank = 0; rank < 4; ++rank) {
    const PackedCheckpoint& part = parts[static_cast<std::size_t>(rank)];
    const MatrixF all = weight_of(source, qkv);
    CHECK(same(weight_of(part, qkv),
               beside({all.middleCols(128 * rank, 128), all.middleCols(512 + 64 * (rank / 2), 64),
                       all.middleCols(640 + 64 * (rank / 2), 64)})));
    const MatrixF both = weight_of(source, gate_up);
    CHECK(same(weight_of(part, gate_up),
               beside({both.middleCols(64 * rank, 64), both.middleCols(256 + 64 * rank, 64)})));
    const std::string bias = bytes_of(source.checkpoint(), gate_up + ".bias");
    const auto place = static_cast<std::size_t>(128 * rank);
    CHECK(bytes_of(part.checkpoint(), gate_up + ".bias") ==
          bias.substr(place, 128) + bias.substr(512 + place, 128));
  }
  PackedModel other{"gptq"};
  other.layer(qkv, groups_of_128(), 256, 640).write(dir / "other", kHeads);
  CHECK(mentions(
      error_of(ErrorKind::unsupported, [&] { run_convert(job(dir / "other", dir / "no", {"marlin"}, 2)); }),
      "N = 640 is not the queries, keys and values of 8 + 2 x 2 heads of 64"));
}

TEST_CASE("blocks and single scales stay right when layers are fused or divided", "[tensor-parallel]") {
  const ScratchDir dir;
  const std::string mlp = std::string{kLayer} + "mlp.";
  Scheme blocks{kE4M3, GroupSize{128}, DType::BF16}, single{kE4M3, std::nullopt, DType::BF16};
  blocks.columns_per_scale = 128;
  single.columns_per_scale = Scheme::kAllColumns;
  for (const Scheme& scheme : {blocks, single}) {
    CAPTURE(to_string(scheme));
    const bool is_blocks = scheme.columns_per_scale == 128;
    const auto in = dir / (is_blocks ? "blocks" : "single");
    PackedModel model{"ct-float-quantized"};
    for (const char* name : {"gate_proj", "up_proj"}) {
      QuantizedMatrix matrix = random_matrix(scheme, K{256}, N{256}, seed() + (name[0] == 'g'));
      matrix.scales = matrix.scales.unaryExpr([](float s) { return std::copysign(0.5f, s); });
      if (!is_blocks) matrix.scales.setConstant(name[0] == 'g' ? 0.5f : 0.25f);
      model.layer(mlp + name, matrix);
    }
    model.write(in);
    const PackedCheckpoint source = PackedCheckpoint::open(in);
    const auto out = dir / (is_blocks ? "blocks-out" : "single-out");
    run_convert(job(in, out, {"compressed-tensors"}, 2, true));
    const auto parts = open_ranks(out, 2);
    for (std::int64_t rank = 0; rank < 2; ++rank)
      CHECK(same(weight_of(parts[static_cast<std::size_t>(rank)], mlp + "gate_up_proj"),
                 beside({weight_of(source, mlp + "gate_proj").middleCols(128 * rank, 128),
                         weight_of(source, mlp + "up_proj").middleCols(128 * rank, 128)})));
    for (std::int64_t rank = 0; rank < 2; ++rank)
      require_verified(out / fmt::format("rank-{}-of-2", rank), in);
  }
  CHECK(mentions(error_of(ErrorKind::unsupported,
                          [&] { run_convert(job(dir / "blocks", dir / "no", {"compressed-tensors"}, 4)); }),
                 "block of 128 straddles 64 columns"));
}

TEST_CASE("what cannot be fused is refused", "[tensor-parallel]") {
  const ScratchDir dir;
  const std::string mlp = std::string{kLayer} + "mlp.";
  const auto refusal = [&](PackedModel& model) {
    static int count = 0;
    const auto in = dir / fmt::format("in-{}", ++count);
    model.write(in);
    return error_of(ErrorKind::unsupported,
                    [&] { run_convert(job(in, dir / "no", {"compressed-tensors"}, 1, true)); });
  };
  PackedModel bits;
  bits.layer(mlp + "gate_proj", groups_of_128(), 256, 256);
  bits.layer(mlp + "up_proj", {kU4B8, GroupSize{64}, DType::F16}, 256, 256);
  CHECK(mentions(refusal(bits), "group 64"));
  PackedModel orders;
  orders.layer(mlp + "gate_proj", act_order(groups_of_128()), 256, 256);
  orders.layer(mlp + "up_proj", act_order(groups_of_128()), 256, 256);
  const std::string text = refusal(orders);
  CHECK((mentions(text, "different orders") && mentions(text, "gate_up_proj")));
  PackedModel biases;
  biases.layer(mlp + "gate_proj", groups_of_128(), 256, 256)
      .layer(mlp + "up_proj", groups_of_128(), 256, 256);
  biases.floats(mlp + "up_proj.bias", {256});
  CHECK(mentions(refusal(biases), "do not have the same bias"));
  Scheme nvfp4{kE2M1, GroupSize{16}, DType::F8_E4M3};
  nvfp4.global_scale = GlobalScale::divides;
  PackedModel globals{"ct-nvfp4-pack-quantized"};
  QuantizedMatrix matrix = random_matrix(nvfp4, K{256}, N{256}, seed());
  globals.layer(mlp + "gate_proj", matrix);
  matrix.global_scale = 3;
  globals.layer(mlp + "up_proj", matrix);
  CHECK(mentions(refusal(globals), "different global scales"));
}

TEST_CASE("what does not fit is refused before any work, in the words of plan", "[tensor-parallel]") {
  const ScratchDir dir;
  const std::string mlp = std::string{kLayer} + "mlp.";
  PackedModel model;
  model.layer(mlp + "down_proj", groups_of_128(), 384, 256);  // a group straddles
  model.layer(std::string{kLayer} + "a.down_proj", act_order(groups_of_128()), 512, 256);  // scattered
  model.layer(std::string{kLayer} + "b.up_proj", groups_of_128(), 256, 96);                // needs padding
  model.layer(std::string{kLayer} + "c.query_key_value", groups_of_128(), 256, 768);
  model.layer(std::string{kLayer} + "d.q_proj", groups_of_128(), 256, 448);
  model.floats("model.layers.1.mlp.down_proj.weight", {64, 63});
  nlohmann::json config = kHeads;
  config["num_attention_heads"] = 7;
  model.write(dir / "in", config);
  const std::string text =
      error_of(ErrorKind::unsupported, [&] { run_convert(job(dir / "in", dir / "out", {"marlin"}, 2)); });
  CAPTURE(text);
  CHECK(mentions(text, "6 layers cannot be converted; nothing was written"));
  CHECK(mentions(text, "model.layers.1.mlp.down_proj.weight (64, 63): K = 63 not divisible by 2"));
  CHECK(mentions(text, "act_order scatters the groups of a rank's rows; --fold-act-order sorts them"));
  PlanJob plan;
  plan.source = dir / "in";
  plan.ranks = {2};
  const PlanReport report = run_plan(plan);
  REQUIRE(report.modules.size() == 5);
  for (const PlannedModule& module : report.modules) {
    const RankPlan& rank = module.ranks.front();
    REQUIRE(rank.fit != Fit::fits);
    const std::string why =
        rank.fit == Fit::refused ? rank.why : padding_text(rank.k, rank.n, rank.stored_k, rank.stored_n);
    CAPTURE(module.name, why);
    CHECK(mentions(text, module.name + " to marlin: " + why));
  }
  CHECK_FALSE(std::filesystem::exists(dir / "out"));
}

TEST_CASE("rows in an order that stays inside their groups' ranks are divided", "[tensor-parallel]") {
  const ScratchDir dir;
  PackedModel model;
  Scheme scheme = act_order({kU4B8, GroupSize{64}, DType::F16});
  QuantizedMatrix matrix = model.random(scheme, 256, 128);
  for (std::size_t k = 0; k < 256; ++k)  // two groups take turns, in each half
    matrix.g_idx[k] = static_cast<std::int32_t>(k / 128 * 2 + k % 2);
  const std::string name = std::string{kLayer} + "mlp.down_proj";
  model.layer(name, matrix).write(dir / "in");
  const PackedCheckpoint source = PackedCheckpoint::open(dir / "in", "v2");
  run_convert(job(dir / "in", dir / "out", {"marlin"}, 2));
  CHECK(same(below(weights_of(open_ranks(dir / "out", 2), name)), weight_of(source, name)));
  CHECK(same(weight_of(source, name), dequantize(matrix)));
}

TEST_CASE("a rank is not divided again, and has no way back", "[tensor-parallel]") {
  const ScratchDir dir;
  write_llama(dir / "in", "gptq", groups_of_128());
  run_convert(job(dir / "in", dir / "out", {"marlin"}, 2));
  const auto rank = dir / "out/rank-1-of-2";
  CHECK(mentions(error_of(ErrorKind::unsupported, [&] { run_convert(job(rank, dir / "no", {"marlin"}, 2)); }),
                 "rank 1 of 2 already"));
  CHECK(mentions(error_of(ErrorKind::unsupported, [&] { run_convert(job(rank, dir / "no", {"origin"}, 1)); }),
                 "do not become that source again"));
  CHECK(mentions(error_of(ErrorKind::usage, [&] { run_convert(job(dir / "in", dir / "no", {"origin"}, 2)); }),
                 "--to origin"));
  // In another format it is still this rank, and that has a way back to the rank.
  run_convert(job(rank, dir / "gptq", {"gptq"}, 1));
  CHECK(read_manifest(dir / "gptq").tensor_parallel->rank == 1);
  run_convert(job(dir / "gptq", dir / "again", {"origin"}, 1));
  const Checkpoint first = Checkpoint::open(rank), again = Checkpoint::open(dir / "again");
  REQUIRE(first.names() == again.names());
  for (const std::string& name : first.names()) CHECK(bytes_of(first, name) == bytes_of(again, name));
}

TEST_CASE("experts in one tensor are divided each, gate and up by pairs", "[tensor-parallel]") {
  const ScratchDir dir;
  constexpr std::int64_t kExperts = 3;
  const WeightFormat& format = *weight_format_named("gpt-oss-mxfp4");
  const std::string stack = "model.layers.0.mlp.experts.";
  const Scheme scheme{kE2M1, GroupSize{32}, DType::F8_E8M0};
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::vector<MatrixF>> weights;
  for (const auto& [name, k, n] : {std::tuple{"gate_up_proj", 64, 128}, std::tuple{"down_proj", 64, 96}}) {
    for (unsigned expert = 0; expert < kExperts; ++expert) {
      QuantizedMatrix matrix = random_matrix(scheme, K{k}, N{n}, seed() + 2 * expert + (name[0] == 'd'));
      matrix.scales.setConstant(std::ldexp(1.0f, -static_cast<int>(expert)));
      weights[name].push_back(dequantize(matrix));
      for (Part& part : format.encode(matrix)) {
        Tensor& all = tensors[stack + name + "_" + part.suffix];
        all.dtype = part.tensor.dtype;
        all.shape = part.tensor.shape;
        all.shape.insert(all.shape.begin(), kExperts);
        all.data.insert(all.data.end(), part.tensor.data.begin(), part.tensor.data.end());
      }
    }
    Tensor bias{DType::BF16, {kExperts, n}, {}};
    for (std::int64_t i = 0; i < kExperts * n; ++i)
      for (const int shift : {0, 8}) bias.data.push_back(static_cast<std::byte>((i + 1) >> shift));
    tensors[stack + name + "_bias"] = std::move(bias);
  }
  std::filesystem::create_directory(dir / "in");
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) specs.push_back({name, tensor.dtype, tensor.shape});
  CheckpointWriter writer{dir / "in", specs, std::uint64_t{1} << 30};
  for (const auto& [name, tensor] : tensors) writer.write(name, tensor.view());
  writer.finish();
  write_file(dir / "in" / "config.json",
             nlohmann::json{{"quantization_config", {{"quant_method", "mxfp4"}}}}.dump());
  run_convert(job(dir / "in", dir / "out", {"mxfp4"}, 2));
  run_convert(job(dir / "in", dir / "marlin", {"marlin"}, 1));  // padded: E8M0 has no zero
  require_verified(dir / "marlin", dir / "in");
  const auto parts = open_ranks(dir / "out", 2);
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const PackedCheckpoint& part = parts[static_cast<std::size_t>(rank)];
    REQUIRE(part.modules().size() == 2);
    for (const PackedModule& module : part.modules()) {
      CAPTURE(rank, module.name);
      REQUIRE(module.experts == kExperts);
      const bool is_down = module.name == stack + "down_proj";
      for (std::int64_t expert = 0; expert < kExperts; ++expert) {
        const MatrixF& whole =
            weights[is_down ? "down_proj" : "gate_up_proj"][static_cast<std::size_t>(expert)];
        const MatrixF found = dequantize(read_columns(module.stored, module.parts(part.checkpoint(), expert),
                                                      {0, module.stored.geometry.n.value}));
        CHECK(same(found, is_down ? MatrixF{whole.middleRows(32 * rank, 32)}
                                  : MatrixF{whole.middleCols(64 * rank, 64)}));
      }
      const std::string bias = bytes_of(part.checkpoint(), module.name + "_bias");
      std::string expected;
      for (std::size_t expert = 0; expert < kExperts; ++expert)
        expected += is_down ? rank == 0 ? bytes_of(Checkpoint::open(dir / "in"), module.name + "_bias")
                                              .substr(192 * expert, 192)
                                        : std::string(192, '\0')
                            : bytes_of(Checkpoint::open(dir / "in"), module.name + "_bias")
                                  .substr(256 * expert + 128 * static_cast<std::size_t>(rank), 128);
      CHECK(bias == expected);
    }
    require_verified(part.checkpoint().directory(), dir / "in");
  }
}

TEST_CASE("a layer that was padded is not divided", "[tensor-parallel]") {
  const ScratchDir dir;
  PackedModel model;
  model.layer(std::string{kLayer} + "mlp.up_proj", groups_of_128(), 256, 224).write(dir / "in");
  run_convert(job(dir / "in", dir / "padded", {"marlin"}, 1));
  CHECK(mentions(
      error_of(ErrorKind::unsupported, [&] { run_convert(job(dir / "padded", dir / "no", {"gptq-v2"}, 2)); }),
      "padded from 256 x 224 to 256 x 256; unpack it first"));
}

TEST_CASE("verify compares a rank with its part of the source", "[tensor-parallel]") {
  const ScratchDir dir;
  write_llama(dir / "in", "gptq", groups_of_128());
  run_convert(job(dir / "in", dir / "out", {"marlin"}, 2));
  // A manifest that claims other rows than those which are there.
  const auto rank = dir / "out/rank-1-of-2";
  Manifest manifest = read_manifest(rank);
  for (ManifestLayer& layer : manifest.layers)
    if (layer.part->split == "row") layer.part->first_row = 0;
  write_file(rank / kManifestName, serialize(manifest));
  VerifyJob verify;
  verify.artifact = rank;
  verify.source = dir / "in";
  verify.device = Device::cpu;
  const VerifyReport verdict = run_verify(verify);
  CHECK_FALSE(verdict.passed());
  CHECK(mentions(verdict.all_failures().front(), "other numbers than the source's"));
}

TEST_CASE("checkpoints of other tools are divided to the bit", "[tensor-parallel]") {
  struct Case {
    const char* name;
    std::int64_t ranks;
  };
  const auto folder = std::filesystem::path{MPK_SOURCE_DIR}.parent_path() / "shared" / "checkpoints";
  for (const Case& c : {Case{"gptq-v1-sym-g128", 2}, Case{"gptq-v1-sym-g128-moe", 2},
                        Case{"ct-int4-asym-g32-bias", 2}, Case{"ct-int8-channel", 4}}) {
    if (!std::filesystem::exists(folder / c.name)) continue;
    CAPTURE(c.name);
    const ScratchDir dir;
    run_convert(job(folder / c.name, dir / "out", {"marlin"}, c.ranks));
    const PackedCheckpoint source = PackedCheckpoint::open(folder / c.name);
    const auto parts = open_ranks(dir / "out", c.ranks);
    const std::int64_t keys = source.checkpoint().config()["num_key_value_heads"];
    for (const PackedModule& module : source.modules()) {
      CAPTURE(module.name);
      std::vector<MatrixF> weights = weights_of(parts, module.name);
      const bool rows = module.name.ends_with("o_proj") || module.name.ends_with("down_proj");
      if (keys < c.ranks && (module.name.ends_with("k_proj") || module.name.ends_with("v_proj"))) {
        std::vector<MatrixF> once;
        for (std::int64_t rank = 0; rank < c.ranks; rank += c.ranks / keys)
          once.push_back(weights[static_cast<std::size_t>(rank)]);
        weights = std::move(once);
      }
      CHECK(same(rows ? below(weights) : beside(weights), weight_of(source, module.name)));
    }
    for (const PackedCheckpoint& part : parts)
      require_verified(part.checkpoint().directory(), folder / c.name);
  }
}

TEST_CASE("convert --tp writes a directory per rank", "[tensor-parallel][command-line]") {
  const ScratchDir dir;
  write_llama(dir / "in", "gptq", groups_of_128());
  const auto run = [&](const std::string& arguments) {
    const int status = std::system(fmt::format("{} {} >{}/stdout 2>{}/stderr", MPK_PROGRAM, arguments,
                                               dir.path().string(), dir.path().string())
                                       .c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  const std::string in = (dir / "in").string(), out = (dir / "out").string();
  REQUIRE(run(fmt::format("convert {} -o {} --to marlin,gptq --tp 2 --fuse --verify --device cpu", in,
                          out)) == 0);
  for (const char* place : {"marlin/rank-0-of-2", "marlin/rank-1-of-2", "gptq/rank-1-of-2"})
    CHECK(run(fmt::format("verify {}/{} --against {} --device cpu", out, place, in)) == 0);
  REQUIRE(run(fmt::format("inspect {}/marlin/rank-1-of-2", out)) == 0);
  CHECK(mentions(read_file(dir / "stdout"), "rank 1 of 2; 2 layers made of several"));
  CHECK(run(fmt::format("unpack {}/gptq/rank-0-of-2 -o {}/back", out, dir.path().string())) == 4);
  CHECK(run(fmt::format("convert {} -o {}/no --to marlin --tp 16", in, dir.path().string())) == 4);
  CHECK(run(fmt::format("convert {} -o {}/no --to marlin --tp 0", in, dir.path().string())) == 2);
  CHECK_FALSE(std::filesystem::exists(dir / "no"));
}
