// What is announced before the work is what comes of it.

#include "cli/pipeline/quantize_estimate.hpp"
#include "packer/format/error.hpp"
#include "tests/cli/quantize_bench.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/errors.hpp"

using namespace mpk;
namespace fs = std::filesystem;

TEST_CASE("sizes are announced to the byte", "[estimate]") {
  test::QuantizeBench bench{{.hidden = 256, .intermediate = 512, .heads = 4, .kv_heads = 2, .tied = false}};
  bench.use(GENERATE("rtn", "gptq"));
  bench.job.max_shard_bytes = GENERATE(20'000, 5'000'000'000);
  bench.job.formats = {weight_format_named("marlin"), weight_format_named("gptq")};
  bench.job.recipe.overrides.push_back(parse_layer_override("down_proj=bits:8,group:-1"));
  bench.job.recipe.ignore_text = {"layers.0.*q_proj"};
  bench.job.recipe.ignore.push_back(parse_regex("layers.0.*q_proj", "--ignore"));
  const QuantizeEstimate estimate = estimate_quantize(bench.job);
  REQUIRE_FALSE(fs::exists(bench.job.destination));
  const QuantizeReport report = run_quantize(bench.job);

  REQUIRE(estimate.source_bytes == report.source_bytes);
  REQUIRE(estimate.artifacts.size() == 2);
  std::uint64_t disk = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    REQUIRE(estimate.artifacts[i].format == report.artifacts[i].format);
    REQUIRE(estimate.artifacts[i].tensor_bytes == report.artifacts[i].bytes);
    REQUIRE(estimate.artifacts[i].shards == report.artifacts[i].shards);
    std::uint64_t files = 0;
    for (const auto& entry : fs::directory_iterator{report.artifacts[i].directory}) {
      const std::string name = entry.path().filename().string();
      if (name.ends_with(".safetensors")) files += entry.file_size();
      if (name != kManifestName) disk += entry.file_size();
    }
    REQUIRE(estimate.artifacts[i].file_bytes == files);
  }
  // config.json gains a quantization_config, and shards get an index.
  REQUIRE(estimate.disk_bytes <= disk);
  REQUIRE(estimate.disk_bytes > disk - 100'000);

  std::int64_t quantized = 0, kept = 0;
  for (const auto& kind : estimate.kinds) (kind.scheme ? quantized : kept) += kind.count;
  REQUIRE(quantized == std::ssize(report.layers));
  REQUIRE(kept == std::ssize(report.kept));
  REQUIRE(estimate.seconds.total() > 0);
  REQUIRE((estimate.seconds.forward > 0) == bench.job.method->needs_hessian);
}

TEST_CASE("work grows with the tokens, and statistics spare the model's", "[estimate]") {
  test::QuantizeBench bench;
  const QuantizeEstimate few = estimate_quantize(bench.job);
  bench.job.samples *= 3;
  const QuantizeEstimate many = estimate_quantize(bench.job);
  REQUIRE(many.forward_flops == Approx(3 * few.forward_flops));
  REQUIRE(many.hessian_flops == Approx(3 * few.hessian_flops));
  REQUIRE(many.memory_bytes > few.memory_bytes);
  bench.job.float_inputs = true;
  const QuantizeEstimate once = estimate_quantize(bench.job);
  REQUIRE(once.forward_flops < many.forward_flops);
  bench.job.statistics = "saved";
  REQUIRE(estimate_quantize(bench.job).forward_flops == 0);
}

TEST_CASE("an estimate refuses what the run would refuse", "[estimate]") {
  test::QuantizeBench bench;
  SECTION("an existing destination") {
    fs::create_directory(bench.job.destination);
    REQUIRE(test::error_of([&] { estimate_quantize(bench.job); }).value().kind() == ErrorKind::usage);
  }
  SECTION("a format that cannot hold the shapes") {
    bench.job.formats = {weight_format_named("marlin-original")};
    REQUIRE(test::error_of([&] { estimate_quantize(bench.job); }).value().kind() == ErrorKind::unsupported);
  }
}
