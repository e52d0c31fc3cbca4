// Every family of decoders through quantize, verify and eval.

#include <cmath>
#include <map>
#include <omp.h>
#include <string>

#include "cli/pipeline/evaluate.hpp"
#include "cli/pipeline/plan.hpp"
#include "model/families.hpp"
#include "tests/cli/quantize_bench.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/family_model.hpp"

using namespace mpk;
using nlohmann::json;
using test::hashes;
using test::TinyModel;
namespace fs = std::filesystem;

namespace {

std::string any_family() {
  const auto row = GENERATE(range(std::size_t{0}, kFamilies.size()));
  return kFamilies[row].architecture;
}

struct Bench : test::QuantizeBench {
  explicit Bench(const std::string& architecture) : QuantizeBench(test::family_model(architecture)) {}

  void use_whole_recipe() {
    job.true_sequential = true;
    job.target_correction = 0.5;
    job.options.signed_scales = true;
    job.options.descent_sweeps = 4;
  }
  /// Of the artifact, which has to verify, from the float model.
  double divergence() {
    const fs::path out = dir / "out";
    fs::remove_all(out);
    run_quantize(job);
    const VerifyReport verdict = verify(out);
    CAPTURE(verdict.all_failures());
    REQUIRE(verdict.passed());
    return evaluate_against(out, job.source, job.calibration, job.seq_len).divergence.mean;
  }
};

}  // namespace

TEST_CASE("every family is quantized, verified and evaluated", "[quantize][families]") {
  const std::string architecture = any_family();
  CAPTURE(architecture);
  Bench bench{architecture};
  bench.use("rtn");
  const double rounded = bench.divergence();
  bench.use("gptq");
  const double plain = bench.divergence();
  bench.use_whole_recipe();
  const double whole = bench.divergence();
  CAPTURE(rounded, plain, whole);
  REQUIRE(plain < rounded);
  REQUIRE(whole < plain);

  const Manifest manifest = read_manifest(bench.dir / "out");
  PlanJob plan;
  plan.source = bench.job.source;
  plan.scheme = bench.job.recipe.scheme;
  REQUIRE(run_plan(plan).modules.size() == manifest.layers.size());
}

TEST_CASE("scales are folded in every family without changing more than the rounding",
          "[quantize][families]") {
  const std::string architecture = any_family();
  CAPTURE(architecture);
  Bench bench{architecture};
  bench.job.recipe.scheme = {kU8B128, GroupSize{32}, DType::F16};
  bench.use("rtn");
  const double rounded = bench.divergence();
  bench.use("awq");
  const double scaled = bench.divergence();
  CAPTURE(rounded, scaled);
  REQUIRE(rounded < 0.1);
  REQUIRE(scaled < 2 * rounded);

  // o's inputs are scaled by what v, or its part of a fused linear, was divided by.
  for (const ManifestLayer& layer : read_manifest(bench.dir / "out").layers) {
    CAPTURE(layer.module);
    const auto ends = [&](const char* name) { return layer.module.ends_with(name); };
    const bool reads_router_input =
        layer.module.find("experts.") != std::string::npos && !ends("down_proj") && !ends("w2");
    const bool has_bias = architecture == std::string{"Qwen2ForCausalLM"} && ends("o_proj");
    const bool is_latent = architecture.starts_with("Deepseek") && (ends("_b_proj") || ends("o_proj"));
    REQUIRE(layer.input_scales.empty() == (reads_router_input || has_bias || is_latent));
    const bool produces = ends("qkv_proj") || ends("v_proj") || ends("up_proj") || ends("w3");
    const bool biased = architecture == std::string{"Qwen2ForCausalLM"} && ends("v_proj");
    REQUIRE(layer.output_scales.empty() == (!produces || biased));
  }
}

TEST_CASE("an expert that no token reaches is calibrated on all, and the manifest says so",
          "[quantize][families]") {
  const bool sequential = GENERATE(false, true);
  const std::string architecture =
      GENERATE("MixtralForCausalLM", "Qwen3MoeForCausalLM", "DeepseekV3ForCausalLM");
  CAPTURE(sequential, architecture);
  Bench bench{architecture};
  bench.use_whole_recipe();
  bench.job.true_sequential = sequential;
  bench.divergence();
  const std::int64_t tokens = bench.job.samples * bench.job.seq_len;
  std::int64_t starved = 0, gate_tokens = 0;
  for (const ManifestLayer& layer : read_manifest(bench.dir / "out").layers) {
    CAPTURE(layer.module);
    const bool is_expert = layer.module.find(".experts.") != std::string::npos;
    REQUIRE(layer.expert_tokens.has_value() == is_expert);
    if (!is_expert) continue;
    const auto [routed, used] = *layer.expert_tokens;
    REQUIRE(used == (routed < layer.k.value ? tokens : routed));
    REQUIRE(layer.relative_loss.value() > 0);  // it was solved, not only rounded
    if (layer.module.ends_with("gate_proj") || layer.module.ends_with("w1")) gate_tokens += routed;
    if (layer.module.find(".experts.2.") == std::string::npos) continue;
    REQUIRE(routed == 0);
    ++starved;
  }
  const std::int64_t layers = architecture == std::string{"MixtralForCausalLM"} ? 2 : 1;
  REQUIRE(starved == 3 * layers);
  REQUIRE(gate_tokens == 2 * tokens * layers);
}

TEST_CASE("experts are quantized to the same bytes by any number of threads", "[quantize][families]") {
  Bench bench{"Qwen3MoeForCausalLM"};
  bench.use_whole_recipe();
  bench.divergence();
  const auto reference = hashes(bench.dir / "out");
  const int before = omp_get_max_threads();
  for (const int threads : {1, 3}) {
    omp_set_num_threads(threads);
    bench.job.destination = bench.dir / ("out" + std::to_string(threads));
    run_quantize(bench.job);
    omp_set_num_threads(before);
    REQUIRE(hashes(bench.job.destination) == reference);
  }
}

TEST_CASE("routers stay as they are, and every format's configuration says so", "[quantize][families]") {
  Bench bench{"MixtralForCausalLM"};
  bench.use("rtn");
  bench.job.recipe.scheme = {kU4B8, GroupSize{128}, DType::F16};
  bench.job.recipe.ignore_text = {"experts\\.1\\."};
  bench.job.recipe.ignore.push_back(parse_regex("experts\\.1\\.", "--ignore"));
  bench.job.formats.clear();
  for (const char* name : {"gptq", "awq-marlin", "ct-pack-quantized", "marlin"})
    if (const WeightFormat* format = weight_format_named(name); format && format->writes())
      bench.job.formats.push_back(format);
  REQUIRE(bench.job.formats.size() >= 3);
  const QuantizeReport report = run_quantize(bench.job);
  REQUIRE(report.kept.size() == 2 * 3);
  const Checkpoint source = Checkpoint::open(bench.job.source);
  for (const WeightFormat* format : bench.job.formats) {
    CAPTURE(format->name);
    const Checkpoint artifact = Checkpoint::open(bench.dir / "out" / format->name);
    const std::string said = artifact.config().at("quantization_config").dump();
    for (const char* name :
         {"model.layers.1.block_sparse_moe.gate", "model.layers.0.block_sparse_moe.experts.1.w2"}) {
      const std::string weight = std::string{name} + ".weight";
      REQUIRE(std::ranges::equal(source.tensor(weight).data, artifact.tensor(weight).data));
      std::string escaped;  // GPTQ names modules by regular expressions
      for (const char c : std::string{name}) escaped += c == '.' ? std::string{"\\\\."} : std::string{c};
      CAPTURE(said);
      REQUIRE((said.find(name) != std::string::npos || said.find(escaped) != std::string::npos));
    }
    REQUIRE(std::isfinite(evaluate(bench.dir / "out" / format->name, bench.job.calibration, 32).value));
  }
}
