// Statistics are saved once and solved often: nothing but the run of the model is left out.

#include "cli/pipeline/calibrate.hpp"
#include "cli/pipeline/statistics_file.hpp"
#include "packer/format/error.hpp"
#include "tests/cli/quantize_bench.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/errors.hpp"
#include "tests/support/family_model.hpp"

using namespace mpk;
using test::hashes;
namespace fs = std::filesystem;

namespace {

struct Bench : test::QuantizeBench {
  explicit Bench(const test::TinyModel& model = {}) : QuantizeBench(model) {
    job.recipe.scheme.group_size = GroupSize{32};
    job.float_inputs = true;
  }
  CalibrateJob calibrate_job(const char* name) const {
    return {job.source, dir / name, job.calibration, job.samples, job.seq_len, job.seed};
  }
  fs::path calibrate(const char* name) const {
    run_calibrate(calibrate_job(name));
    return dir / name;
  }
  std::map<std::string, std::string> artifact(const char* name) {
    job.destination = dir / name;
    run_quantize(job);
    return hashes(job.destination);
  }
};

}  // namespace

TEST_CASE("what is solved from a file is what is solved while the float model runs, to the byte",
          "[statistics]") {
  const std::string method = GENERATE("gptq", "awq", "awq-gptq");
  const Ranges ranges = GENERATE(Ranges::mse, Ranges::hessian);
  CAPTURE(method);
  Bench bench{{.hidden = 256, .intermediate = 512, .layers = 3, .heads = 4, .kv_heads = 2}};
  bench.use(method);
  bench.job.options.ranges = ranges;
  bench.job.recipe.ignore_text = {"layers.1.*up_proj"};  // saved all the same
  bench.job.recipe.ignore.push_back(parse_regex("layers.1.*up_proj", "--ignore"));
  const fs::path file = bench.calibrate("stats");
  const auto expected = bench.artifact("direct");
  bench.job.statistics = file;
  bench.job.calibration = "nobody reads this";
  REQUIRE(bench.artifact("saved") == expected);
  REQUIRE(bench.verify(bench.dir / "saved").passed());
}

TEST_CASE("every group of linears is saved, whatever the family", "[statistics]") {
  const std::string architecture = GENERATE("Gemma3ForCausalLM", "Phi3ForCausalLM", "Qwen3MoeForCausalLM",
                                            "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM");
  CAPTURE(architecture);
  Bench bench{test::family_model(architecture)};
  bench.use("awq-gptq");
  const fs::path file = bench.calibrate("stats");
  const auto expected = bench.artifact("direct");
  bench.job.statistics = file;
  REQUIRE(bench.artifact("saved") == expected);
}

TEST_CASE("experts' statistics are saved with how many tokens they saw", "[statistics]") {
  Bench bench{{.architecture = "MixtralForCausalLM",
               .config = {{"num_local_experts", 4}, {"num_experts_per_tok", 2}},
               .unused_expert = 2}};
  const fs::path path = bench.calibrate("stats");
  const auto expected = bench.artifact("direct");
  bench.job.statistics = path;
  REQUIRE(bench.artifact("saved") == expected);

  const StatisticsFile file = StatisticsFile::open(path);
  std::map<std::int64_t, std::int64_t> routed;  // tokens of expert 0, 1, ..
  for (const auto& [module, k] : file.groups()) {
    const InputStatistics seen = file.group(module, k);
    const auto expert = module.find("experts.");
    REQUIRE(seen.routed_tokens.has_value() == (expert != std::string::npos));
    if (seen.routed_tokens.value_or(0) < k) REQUIRE(seen.tokens == 16 * 32);
    if (module.ends_with("w1")) routed[module[expert + 8] - '0'] += *seen.routed_tokens;
  }
  REQUIRE(routed.at(2) == 0);
  REQUIRE(routed.at(0) + routed.at(1) + routed.at(3) == 2 * 2 * 16 * 32);  // layers, experts of a token
}

TEST_CASE("files add up to those of their texts together", "[statistics]") {
  Bench bench;
  const fs::path first = bench.calibrate("first");
  test::write_tokens(bench.job.calibration, 16 * 32, 96, 8);
  const fs::path second = bench.calibrate("second");
  const CalibrateReport report = run_merge({first, second}, bench.dir / "both");
  REQUIRE(report.texts == 2);
  const StatisticsFile a = StatisticsFile::open(first), b = StatisticsFile::open(second),
                       sum = StatisticsFile::open(bench.dir / "both");
  REQUIRE(sum.groups().size() == 2 * 4);
  for (const auto& [module, k] : sum.groups()) {
    const InputStatistics both = sum.group(module, k);
    REQUIRE(both.hessian == a.group(module, k).hessian + b.group(module, k).hessian);
    REQUIRE(both.hessian == both.hessian.transpose());
    REQUIRE(both.tokens == 2 * 16 * 32);
  }
  bench.job.statistics = bench.dir / "both";
  bench.artifact("out");
  REQUIRE(bench.verify(bench.dir / "out").passed());
  REQUIRE(read_manifest(bench.dir / "out").recipe.at("calibration").size() == 2);

  SECTION("but not the same text twice") {
    REQUIRE(test::error_of([&] {
              run_merge({first, first}, bench.dir / "no");
            })
                .value()
                .kind() == ErrorKind::usage);
  }
  SECTION("and not another model's") {
    test::write_tiny_model(bench.dir / "other", {.seed = 2});
    bench.job.source = bench.dir / "other";
    const fs::path other = bench.calibrate("others");
    REQUIRE(test::error_of([&] {
              run_merge({first, other}, bench.dir / "no");
            })
                .value()
                .kind() == ErrorKind::usage);
    REQUIRE(test::error_of([&] { bench.artifact("no"); }).value().kind() == ErrorKind::usage);
  }
  SECTION("and not what is no statistics") {
    const fs::path model = bench.dir / "float" / "model.safetensors";
    REQUIRE(test::error_of([&] {
              run_merge({first, model}, bench.dir / "no");
            })
                .value()
                .kind() == ErrorKind::bad_input);
  }
  SECTION("and nothing is replaced") {
    REQUIRE(test::error_of([&] { run_merge({first, second}, first); }).value().kind() == ErrorKind::usage);
    REQUIRE(test::error_of([&] { run_calibrate(bench.calibrate_job("first")); }).value().kind() ==
            ErrorKind::usage);
  }
  REQUIRE_FALSE(fs::exists(bench.dir / "no"));
}

TEST_CASE("a run from statistics that was interrupted goes on as well", "[statistics]") {
  Bench bench{{.layers = 3}};
  const bool saved = GENERATE(false, true);
  if (saved) bench.job.statistics = bench.calibrate("stats");
  const auto expected = bench.artifact("whole");
  bench.job.destination = bench.dir / "out";
  const auto fails = [](const QuantizeReport&) { throw Error{ErrorKind::device, "the GPU is busy"}; };
  REQUIRE_THROWS_AS(run_quantize(bench.job, fails), Error);
  REQUIRE(run_quantize(bench.job).resumed_layers == 3);
  REQUIRE(hashes(bench.job.destination) == expected);
}
