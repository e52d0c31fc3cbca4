#include <omp.h>

#include <fmt/format.h>

#include "cli/pipeline/evaluate.hpp"
#include "cli/pipeline/quantize.hpp"
#include "cli/pipeline/verify_artifact.hpp"
#include "packer/format/error.hpp"
#include "packer/io/checkpoint.hpp"
#include "packer/io/sha256.hpp"
#include "tests/cli/quantize_bench.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/errors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/tiny_model.hpp"

using namespace mpk;
using test::hashes;
using Bench = test::QuantizeBench;
namespace fs = std::filesystem;

namespace {

bool empty_of_results(const fs::path& directory) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name != "float" && name != "tokens.jsonl") return false;
  }
  return true;
}

}  // namespace

TEST_CASE("what quantize writes passes verify, for every method and scheme", "[quantize]") {
  const char* method = GENERATE("rtn", "gptq", "awq", "awq-gptq");
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const std::int64_t group = GENERATE(-1, 32, 64, 128);
  Bench bench;
  bench.use(method);
  bench.job.recipe.scheme = {type, group_size_from(group), DType::F16};
  const QuantizeReport report = run_quantize(bench.job);
  const VerifyReport verdict = bench.verify(bench.dir / "out");
  CAPTURE(method, type.bits, group, verdict.all_failures());
  REQUIRE(verdict.passed());
  REQUIRE(verdict.layers.size() == 14);
  for (const LayerCheck& layer : verdict.layers) {
    REQUIRE(layer.round_trip);
    REQUIRE(layer.decoders_agree);
    REQUIRE(layer.weight_error.has_value());
    REQUIRE(layer.output_error.has_value() == (std::string{method} != "rtn"));
  }
  REQUIRE(report.artifacts.at(0).bytes < report.source_bytes);
}

TEST_CASE("true-sequential calibration, signed scales and descent pass verify and lose less", "[quantize]") {
  Bench bench;
  bench.job.recipe.scheme.group_size = GroupSize{32};
  const auto output_error = [&] {
    fs::remove_all(bench.dir / "out");
    run_quantize(bench.job);
    const VerifyReport verdict = bench.verify(bench.dir / "out");
    CAPTURE(verdict.all_failures());
    REQUIRE(verdict.passed());
    double sum = 0;
    for (const LayerCheck& layer : verdict.layers) sum += layer.output_error.value();
    return sum;
  };
  const double plain = output_error();
  SECTION("descent") {
    bench.job.options.descent_sweeps = 4;
  }
  SECTION("signed scales and descent") {
    bench.job.options.signed_scales = true;
    bench.job.options.descent_sweeps = 4;
  }
  REQUIRE(output_error() < plain);
  bench.job.true_sequential = true;
  output_error();
}

TEST_CASE(
    "every format that can hold the codes passes verify with the whole recipe, negative scales included",
    "[quantize]") {
  const bool asymmetric = GENERATE(false, true);
  const int bits = GENERATE(4, 8);
  const std::int64_t group = bits == 4 ? 128 : -1;
  Bench bench{{.hidden = 256, .intermediate = 512, .heads = 4, .kv_heads = 4}};
  QuantizeJob& job = bench.job;
  job.recipe.scheme = with_codes({.group_size = group_size_from(group)}, bits, asymmetric);
  job.options.signed_scales = true;
  job.options.descent_sweeps = 1;
  job.true_sequential = true;
  job.target_correction = 0.5;
  job.formats.clear();
  for (const WeightFormat& format : weight_formats())
    if (format.writes() && !format.only_24 && !format.refusal(job.recipe.scheme, K{256}, N{256}) &&
        !format.refusal(job.recipe.scheme, K{512}, N{256}))
      job.formats.push_back(&format);
  CAPTURE(asymmetric, bits, job.formats.size());
  REQUIRE(job.formats.size() >= (bits == 4 ? 5 : 3));
  run_quantize(job);
  for (const WeightFormat* format : job.formats) {
    CAPTURE(format->name);
    const VerifyReport verdict = bench.verify(bench.dir / "out" / format->name);
    CAPTURE(verdict.all_failures());
    REQUIRE(verdict.passed());
  }
}

TEST_CASE("layers whose targets are corrected follow the float model more closely", "[quantize]") {
  Bench bench{{.layers = 4}};
  bench.job.recipe.scheme.group_size = GroupSize{32};
  bench.job.true_sequential = GENERATE(false, true);
  const auto divergence = [&](double strength) {
    bench.job.target_correction = strength;
    fs::remove_all(bench.dir / "out");
    run_quantize(bench.job);
    return evaluate_against(bench.dir / "out", bench.dir / "float", bench.job.calibration, 32)
        .divergence.mean;
  };
  const double without = divergence(0), with = divergence(0.5);
  CAPTURE(without, with);
  REQUIRE(with < without);
}

TEST_CASE("scales folded into the layer before change nothing but the rounding", "[quantize]") {
  Bench bench{{.hidden = 256, .intermediate = 512, .heads = 4, .kv_heads = 2}};
  bench.job.recipe.scheme = {kU8B128, GroupSize{32}, DType::F16};
  const auto divergence = [&](const char* method) {
    bench.use(method);
    fs::remove_all(bench.dir / "out");
    run_quantize(bench.job);
    REQUIRE(bench.verify(bench.dir / "out").passed());
    return evaluate_against(bench.dir / "out", bench.dir / "float", bench.job.calibration, 32)
        .divergence.mean;
  };
  const double rounded = divergence("rtn"), scaled = divergence("awq");
  CAPTURE(rounded, scaled);
  REQUIRE(scaled < 2 * rounded);

  const Manifest manifest = read_manifest(bench.dir / "out");
  for (const ManifestLayer& layer : manifest.layers) {
    const bool produces = layer.module.ends_with("v_proj") || layer.module.ends_with("up_proj");
    REQUIRE(std::ssize(layer.input_scales) == layer.k.value);
    REQUIRE(std::ssize(layer.output_scales) == (produces ? layer.n.value : 0));
  }
  std::int64_t changed = 0;
  const Checkpoint source = Checkpoint::open(bench.dir / "float"),
                   artifact = Checkpoint::open(bench.dir / "out");
  for (const SourceTensor& tensor : manifest.source)
    if (tensor.fate == Fate::rescaled)
      changed += !std::ranges::equal(source.tensor(tensor.name).data, artifact.tensor(tensor.name).data);
  REQUIRE(changed > 0);
}

TEST_CASE("nothing is folded into what is not quantized", "[quantize]") {
  Bench bench;
  bench.use("awq");
  bench.job.recipe.ignore_text = {"up_proj|layers.0.*q_proj"};
  bench.job.recipe.ignore.push_back(parse_regex("up_proj|layers.0.*q_proj", "--ignore"));
  run_quantize(bench.job);
  REQUIRE(bench.verify(bench.dir / "out").passed());
  for (const ManifestLayer& layer : read_manifest(bench.dir / "out").layers) {
    CAPTURE(layer.module);
    const bool down = layer.module.ends_with("down_proj"), gate = layer.module.ends_with("gate_proj");
    const bool first =
        layer.module.find("layers.0.self_attn") != std::string::npos && !layer.module.ends_with("o_proj");
    REQUIRE(layer.input_scales.empty() == (down || gate || first));
  }
}

TEST_CASE("several formats are written from the same codes, each its own artifact", "[quantize]") {
  Bench bench{{.hidden = 256, .intermediate = 512, .heads = 4, .kv_heads = 4}};
  bench.job.recipe.scheme.group_size = GroupSize{128};
  bench.job.formats.clear();
  for (const char* name : {"marlin", "gptq", "gptq-v2", "marlin-original"})
    bench.job.formats.push_back(weight_format_named(name));
  run_quantize(bench.job);
  std::optional<double> first;
  for (const WeightFormat* format : bench.job.formats) {
    CAPTURE(format->name);
    REQUIRE(bench.verify(bench.dir / "out" / format->name).passed());
    const double value = evaluate(bench.dir / "out" / format->name, bench.job.calibration, 32).value;
    REQUIRE(value == first.value_or(value));  // bit for bit: the decoded weights are the same
    first = value;
  }
}

TEST_CASE("the bytes depend neither on the number of threads nor on the run", "[quantize]") {
  Bench bench;
  const int before = omp_get_max_threads();
  run_quantize(bench.job);
  const auto reference = hashes(bench.dir / "out");
  for (const int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    bench.job.destination = bench.dir / fmt::format("out{}", threads);
    run_quantize(bench.job);
    omp_set_num_threads(before);
    REQUIRE(hashes(bench.job.destination) == reference);
  }
}

TEST_CASE("mixed recipes: other schemes and floating point side by side", "[quantize]") {
  Bench bench{{.tied = false}};
  bench.job.recipe.ignore_text = {"layers.0.*q_proj"};
  bench.job.recipe.ignore.push_back(parse_regex("layers.0.*q_proj", "--ignore"));
  bench.job.recipe.overrides.push_back(parse_layer_override("down_proj=bits:8,group:-1"));
  const QuantizeReport report = run_quantize(bench.job);
  REQUIRE(report.kept == std::vector<std::string>{"model.layers.0.self_attn.q_proj"});
  REQUIRE(bench.verify(bench.dir / "out").passed());

  const Checkpoint source = Checkpoint::open(bench.dir / "float");
  const Checkpoint artifact = Checkpoint::open(bench.dir / "out");
  for (const char* name : {"model.layers.0.self_attn.q_proj.weight", "lm_head.weight", "model.norm.weight"}) {
    const TensorView a = source.tensor(name), b = artifact.tensor(name);
    REQUIRE((a.dtype == b.dtype && a.shape == b.shape && std::ranges::equal(a.data, b.data)));
  }
  REQUIRE(artifact.config().contains("quantization_config"));
  REQUIRE(test::read_file(bench.dir / "out" / "LICENSE") == "test\n");
  const Manifest manifest = read_manifest(bench.dir / "out");
  REQUIRE(manifest.source.size() == source.names().size());
  for (const SourceTensor& tensor : manifest.source)
    REQUIRE((tensor.fate == Fate::quantized) != artifact.contains(tensor.name));
}

TEST_CASE("shards split by size and verify as one", "[quantize]") {
  Bench bench;
  bench.job.max_shard_bytes = 20'000;
  const QuantizeReport report = run_quantize(bench.job);
  REQUIRE(report.artifacts[0].shards > 3);
  REQUIRE(fs::exists(bench.dir / "out" / "model.safetensors.index.json"));
  REQUIRE(bench.verify(bench.dir / "out").passed());
}

TEST_CASE("what cannot be done is refused before anything is written", "[quantize]") {
  Bench bench;
  SECTION("a format that cannot hold the shapes") {
    bench.job.formats = {weight_format_named("marlin-original")};
    const Error error = test::error_of([&] { run_quantize(bench.job); }).value();
    REQUIRE(error.kind() == ErrorKind::unsupported);
    REQUIRE(std::string{error.what()}.find("model.layers.0") != std::string::npos);
  }
  SECTION("a pattern that matches nothing") {
    bench.job.recipe.overrides.push_back(parse_layer_override("downproj=bits:8"));
    REQUIRE(test::error_of([&] { run_quantize(bench.job); }).value().kind() == ErrorKind::usage);
  }
  SECTION("too little calibration text") {
    bench.job.samples = 17;
    REQUIRE(test::error_of([&] { run_quantize(bench.job); }).value().kind() == ErrorKind::bad_input);
  }
  SECTION("an existing destination") {
    fs::create_directory(bench.dir / "out");
    REQUIRE(test::error_of([&] { run_quantize(bench.job); }).value().kind() == ErrorKind::usage);
    fs::remove(bench.dir / "out");
  }
  SECTION("an already quantized source") {
    run_quantize(bench.job);
    QuantizeJob again = bench.job;
    again.source = bench.dir / "out";
    again.destination = bench.dir / "twice";
    REQUIRE(test::error_of([&] { run_quantize(again); }).value().kind() == ErrorKind::unsupported);
    fs::remove_all(bench.dir / "out");
  }
  SECTION("a weight that is not a number names its tensor") {
    const fs::path file = bench.dir / "float" / "model.safetensors";
    const Checkpoint source = Checkpoint::open(bench.dir / "float");
    const auto shard = source.header_bytes("model.safetensors");
    const auto weight = source.tensor("model.layers.1.mlp.up_proj.weight");
    std::string bytes = test::read_file(file);
    const auto offset = static_cast<std::size_t>(weight.data.data() - shard.data());
    bytes[offset] = '\xc0';
    bytes[offset + 1] = '\x7f';
    test::write_file(file, bytes);
    const Error error = test::error_of([&] { run_quantize(bench.job); }).value();
    REQUIRE(error.kind() == ErrorKind::bad_input);
    REQUIRE(std::string{error.what()}.find("model.layers.1.mlp.up_proj") != std::string::npos);
  }
  SECTION("a proof that fails keeps the artifact from appearing") {
    const auto refuse = [](const QuantizeReport& report) {
      REQUIRE(fs::exists(report.artifacts.at(0).directory / kManifestName));
      throw Error{ErrorKind::mismatch, "no"};
    };
    REQUIRE(test::error_of([&] { run_quantize(bench.job, refuse); }).value().kind() == ErrorKind::mismatch);
  }
  REQUIRE(empty_of_results(bench.dir.path()));
}

TEST_CASE("verify tells another source from the artifact's own", "[verify]") {
  Bench bench;
  run_quantize(bench.job);
  test::write_tiny_model(bench.dir / "other", {.seed = 2});
  bench.job.source = bench.dir / "other";
  const VerifyReport verdict = bench.verify(bench.dir / "out");
  REQUIRE_FALSE(verdict.passed());
  REQUIRE(verdict.failures.size() >= 14);
}
