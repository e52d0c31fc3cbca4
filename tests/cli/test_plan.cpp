// What a plan says of layers made for every verdict, and that its sizes are those of the artifacts.

#include <algorithm>
#include <cstdlib>
#include <sys/wait.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/pipeline/convert.hpp"
#include "cli/pipeline/plan.hpp"
#include "cli/pipeline/quantize.hpp"
#include "packer/io/checkpoint_writer.hpp"
#include "tests/packer/random_matrix.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/errors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/tiny_model.hpp"

using namespace mpk;

namespace {

const Scheme kGroups128{kU4B8, GroupSize{128}};
const Scheme kPerColumn{kU4B8, std::nullopt};

struct Layer {
  std::string module;
  Scheme scheme;
  std::int64_t k, n;
  bool bias = false;
  int highest_zero = 15;
};

/// One checkpoint of GPTQ with a norm beside the layers.
void write_gptq(const std::filesystem::path& directory, const std::vector<Layer>& layers,
                const nlohmann::json& config = nlohmann::json::object()) {
  std::filesystem::create_directories(directory);
  const WeightFormat& gptq = *weight_format_named("gptq");
  std::vector<std::pair<std::string, Tensor>> tensors;
  CheckpointSchemes schemes;
  schemes.common = layers.front().scheme;
  for (const Layer& layer : layers) {
    QuantizedMatrix matrix = test::random_matrix(layer.scheme, K{layer.k}, N{layer.n}, test::seed(), 1);
    const auto highest = static_cast<std::int16_t>(layer.highest_zero);
    for (Eigen::Index i = 0; i < matrix.zero_points.size(); ++i) {
      std::int16_t& zero = matrix.zero_points.data()[i];
      zero = i == 0 ? highest : std::min(zero, highest);
    }
    for (Part& part : gptq.encode(matrix))
      tensors.emplace_back(layer.module + "." + part.suffix, std::move(part.tensor));
    if (layer.bias)
      tensors.emplace_back(layer.module + ".bias",
                           Tensor{DType::F16, {layer.n}, std::vector<std::byte>(2 * layer.n)});
    if (layer.scheme != schemes.common) schemes.exceptions.emplace(layer.module, layer.scheme);
  }
  tensors.emplace_back("model.norm.weight", Tensor{DType::F16, {64}, std::vector<std::byte>(128)});
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) specs.push_back({name, tensor.dtype, tensor.shape});
  CheckpointWriter writer{directory, specs, std::uint64_t{1} << 30};
  for (const auto& [name, tensor] : tensors) writer.write(name, tensor.view());
  writer.finish();
  nlohmann::json all = config;
  all["torch_dtype"] = "float16";
  all["quantization_config"] = gptq.quantization_config(schemes);
  test::write_file(directory / "config.json", all.dump(2));
}

PlanReport plan(const std::filesystem::path& source, const std::vector<std::int64_t>& ranks,
                const std::string& target = "marlin") {
  PlanJob job;
  job.source = source;
  job.target = target;
  job.ranks = ranks;
  job.zeros = "v1";
  return run_plan(job);
}

/// The only layer of a checkpoint, divided among `ranks`.
RankPlan plan_one(const Layer& layer, std::int64_t ranks,
                  const nlohmann::json& config = nlohmann::json::object()) {
  const test::ScratchDir dir;
  write_gptq(dir / "in", {layer}, config);
  const PlanReport report = plan(dir / "in", {ranks});
  REQUIRE(report.modules.size() == 1);
  return report.modules.front().ranks.front();
}

void check_refused(const RankPlan& plan, const std::string& why) {
  CHECK(plan.fit == Fit::refused);
  CHECK(plan.bytes == 0);
  CHECK(plan.why == why);
}

void check_sizes(const RankPlan& plan, Fit fit, std::int64_t k, std::int64_t n, std::int64_t stored_k,
                 std::int64_t stored_n) {
  CAPTURE(plan.why);
  CHECK(plan.fit == fit);
  CHECK(plan.k.value == k);
  CHECK(plan.n.value == n);
  CHECK(plan.stored_k.value == stored_k);
  CHECK(plan.stored_n.value == stored_n);
}

std::uint64_t converted_bytes(const test::ScratchDir& dir, const std::string& target) {
  ConvertJob job;
  job.source = dir / "in";
  job.destination = dir / ("out-" + target);
  job.targets = {target};
  job.zeros = "v1";
  return run_convert(job).artifacts.front().bytes;
}

}  // namespace

TEST_CASE("the last component of a name says how engines divide a layer", "[plan]") {
  CHECK(split_of("model.layers.0.self_attn.q_proj") == Split::columns);
  CHECK(split_of("model.layers.0.mlp.experts.gate_up_proj") == Split::columns);
  CHECK(split_of("transformer.h.0.mlp.dense_4h_to_h") == Split::rows);
  CHECK(split_of("w2") == Split::rows);
  CHECK(split_of("model.layers.0.mlp.down_proj.shared") == Split::none);
  CHECK(split_of("") == Split::none);
}

TEST_CASE("a rank's columns fit, need padding, or cannot be", "[plan]") {
  const Layer layer{"a.up_proj", kGroups128, 256, 512};
  check_sizes(plan_one(layer, 1), Fit::fits, 256, 512, 256, 512);
  check_sizes(plan_one(layer, 2), Fit::fits, 256, 256, 256, 256);
  check_sizes(plan_one(layer, 8), Fit::fits, 256, 64, 256, 64);
  check_sizes(plan_one(layer, 16), Fit::padded, 256, 32, 256, 64);
  check_refused(plan_one(layer, 3), "N = 512 not divisible by 3");
  CHECK(plan_one(layer, 2).bytes == 256 * 256 / 2 + 2 * 256 * 2);
}

TEST_CASE("a rank's rows must be whole groups", "[plan]") {
  const Layer layer{"a.down_proj", kGroups128, 384, 256};
  check_sizes(plan_one(layer, 3), Fit::fits, 128, 256, 128, 256);
  check_refused(plan_one(layer, 2), "group 128 straddles 192 rows");
  check_refused(plan_one(layer, 5), "K = 384 not divisible by 5");
  check_sizes(plan_one({"a.down_proj", kPerColumn, 384, 64}, 2), Fit::padded, 192, 64, 256, 64);
}

TEST_CASE("act-order lets columns be divided, not rows", "[plan]") {
  Scheme ordered = kGroups128;
  ordered.act_order = true;
  check_sizes(plan_one({"a.up_proj", ordered, 256, 256}, 2), Fit::fits, 256, 128, 256, 128);
  check_sizes(plan_one({"a.down_proj", ordered, 256, 256}, 1), Fit::fits, 256, 256, 256, 256);
  check_refused(plan_one({"a.down_proj", ordered, 256, 256}, 2),
                "act_order scatters the groups of a rank's rows");
}

TEST_CASE("ranks share key heads, and no head is divided", "[plan]") {
  const nlohmann::json config{
      {"num_attention_heads", 6}, {"num_key_value_heads", 2}, {"head_dim", 64}, {"hidden_size", 256}};
  const Layer keys{"a.k_proj", kGroups128, 256, 128}, queries{"a.q_proj", kGroups128, 256, 384};
  check_sizes(plan_one(keys, 2, config), Fit::fits, 256, 64, 256, 64);
  check_sizes(plan_one(keys, 8, config), Fit::fits, 256, 64, 256, 64);
  CHECK(plan_one(keys, 8, config).copies == 4);
  check_refused(plan_one(keys, 3, config), "2 key heads over 3 ranks");
  check_sizes(plan_one(queries, 2, config), Fit::fits, 256, 192, 256, 192);
  check_refused(plan_one(queries, 4, config), "6 heads over 4 ranks");
  check_refused(plan_one({"a.o_proj", kPerColumn, 384, 256}, 4, config), "6 heads over 4 ranks");
  // Without the configuration only divisibility is known.
  check_sizes(plan_one(keys, 8), Fit::padded, 256, 16, 256, 64);
  CHECK(plan_one({"a.other", kGroups128, 256, 128}, 8).copies == 8);
}

TEST_CASE("codes that a format has no type for need --widen", "[plan]") {
  const test::ScratchDir dir;
  Scheme two_bits = kGroups128;
  two_bits.type = symmetric_integer(2);
  write_gptq(dir / "in", {{"a.up_proj", two_bits, 256, 256}, {"a.down_proj", kGroups128, 256, 256}});
  PlanJob job;
  job.source = dir / "in";
  job.ranks = {1, 2};
  const PlanReport refused = run_plan(job);
  CHECK(refused.refused == 1);
  CHECK(refused.totals[0].refused == 1);
  CHECK(refused.totals[1].fit == 1);
  job.recode.widen = true;
  const PlanReport widened = run_plan(job);
  CHECK(widened.refused == 0);
  REQUIRE(widened.modules.back().name == "a.up_proj");
  CHECK(widened.modules.back().whole.notes == std::vector<std::string>{"codes widened to 4 bits"});
}

TEST_CASE("a plan's size is what convert writes", "[plan]") {
  const test::ScratchDir dir;
  Scheme ordered = kGroups128, zeros = kGroups128;
  ordered.act_order = true;
  zeros.type = kU4;
  zeros.zero_points = ZeroPoints::integer;
  write_gptq(dir / "in", {{"a.up_proj", kGroups128, 256, 256, true},
                          {"a.down_proj", ordered, 256, 128},
                          {"a.q_proj", kPerColumn, 96, 96, true},
                          {"a.k_proj", zeros, 128, 128}});
  for (const char* target : {"marlin", "gptq", "gptq-v2", "compressed-tensors"}) {
    CAPTURE(target);
    const PlanReport report = plan(dir / "in", {1, 2}, target);
    std::vector<std::string> reasons;
    for (const PlannedModule& module : report.modules)
      if (module.whole.fit == Fit::refused) reasons.push_back(module.name + ": " + module.whole.why);
    CAPTURE(reasons);
    if (report.refused == 0)
      CHECK(report.result_bytes == converted_bytes(dir, target));
    else
      CHECK(test::error_of([&] { converted_bytes(dir, target); })->kind() == ErrorKind::unsupported);
    CHECK(report.totals[0].fit + report.totals[0].padded + report.totals[0].refused == 4);
    CHECK(report.memory_bytes == 2 * report.largest_tensor + kFixedMemoryBytes);
  }
  CHECK(plan(dir / "in", {1}).refused == 0);  // so that something was compared
  CHECK(plan(dir / "in", {1}, "gptq").refused == 0);
}

TEST_CASE("a zero point that only the source's format has is found", "[plan]") {
  const test::ScratchDir dir;
  Scheme zeros = kGroups128;
  zeros.type = kU4;
  zeros.zero_points = ZeroPoints::integer;
  write_gptq(dir / "in", {{"a.up_proj", zeros, 128, 128, false, 16}});
  check_refused(plan(dir / "in", {1}).modules.front().whole,
                "zero points from 1 to 16; marlin stores 0 to 15");
  CHECK(test::error_of([&] { converted_bytes(dir, "marlin"); })->kind() == ErrorKind::unsupported);
}

TEST_CASE("an artifact's way back is planned from its origin", "[plan]") {
  const test::ScratchDir dir;
  write_gptq(dir / "first", {{"a.up_proj", kPerColumn, 96, 96, true}});
  ConvertJob there;
  there.source = dir / "first";
  there.destination = dir / "in";
  there.targets = {"marlin"};
  run_convert(there);
  const PlanReport report = plan(dir / "in", {1, 2}, "gptq");
  CHECK(report.modules.front().whole.stored_k == K{96});
  CHECK(report.modules.front().ranks[1].n == N{48});
  CHECK(report.result_bytes == converted_bytes(dir, "gptq"));
}

TEST_CASE("a float checkpoint's plan is the size of what quantize writes", "[plan]") {
  const test::ScratchDir dir;
  for (const bool tied : {false, true}) {
    const auto model = dir / (tied ? "tied" : "untied");
    test::TinyModel tiny;
    tiny.tied = tied;
    test::write_tiny_model(model, tiny);
    const PlanReport report = plan(model, {1, 2, 4});
    CHECK_FALSE(report.is_packed);
    CHECK_FALSE(report.memory_bytes.has_value());
    REQUIRE(report.modules.size() == 14);
    CHECK(report.refused == 0);
    QuantizeJob job;
    job.source = model;
    job.destination = dir / (tied ? "tied-out" : "untied-out");
    job.formats = {weight_format_named("marlin")};
    for (const Method& method : methods())
      if (std::string{method.name} == "rtn") job.method = &method;
    job.recipe.scheme = kGroups128;
    CHECK(report.result_bytes == run_quantize(job).artifacts.front().bytes);
    // One of two heads' 128 rows of o_proj is half a group; down_proj has two groups.
    CHECK(report.totals[1].refused == 2);
    CHECK(report.totals[1].fit == 12);
  }
}

TEST_CASE("plan prints a table and exits with 0 whatever fits", "[plan][command-line]") {
  const test::ScratchDir dir;
  write_gptq(dir / "in", {{"l.0.down_proj", kGroups128, 384, 256},
                          {"l.1.down_proj", kGroups128, 384, 256},
                          {"l.0.up_proj", kPerColumn, 256, 96}});
  const auto run = [&](const std::string& arguments) {
    const int status =
        std::system(fmt::format("{} plan {} {} >{}/out 2>{}/err", MPK_PROGRAM, (dir / "in").string(),
                                arguments, dir.path().string(), dir.path().string())
                        .c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  REQUIRE(run("--tp 1,2") == 0);
  const std::string text = test::read_file(dir / "out");
  CAPTURE(text);
  CHECK(text.find("2 x down_proj 384x256, row, gptq u4b8 group 128") != std::string::npos);
  CHECK(text.find("no: group 128 straddles 192 rows") != std::string::npos);
  CHECK(text.find("pad 256x96 -> 256x128") != std::string::npos);
  CHECK(text.find("CANNOT be converted to marlin: 2 of 3 layers at tp 2") != std::string::npos);
  REQUIRE(run("--tp 1,2 --json -") == 0);
  const auto json = nlohmann::json::parse(test::read_file(dir / "out"));
  REQUIRE(json.at("layers").size() == 3);
  CHECK(json.at("layers").at(0).at("ranks").at(1).at("fit") == "refused");
  CHECK(json.at("totals").at(1).at("refused") == 2);
  CHECK(run("--to nothing") == 2);
  CHECK(run("--tp 0") == 2);
}

TEST_CASE("a checkpoint without linear layers has no plan", "[plan]") {
  const test::ScratchDir dir;
  CheckpointWriter writer{dir.path(), {{"model.norm.weight", DType::F16, {2}}}, 1 << 20};
  const std::vector<std::byte> zeros(4);
  writer.write("model.norm.weight", TensorView{DType::F16, {2}, zeros});
  writer.finish();
  CHECK(test::error_of([&] { plan(dir.path(), {1}); })->kind() == ErrorKind::unsupported);
}
