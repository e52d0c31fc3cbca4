// The checkpoint and the text that the README's first command uses: a trained model, so that accuracy means
// something.

#include "cli/pipeline/evaluate.hpp"
#include "cli/pipeline/quantize.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;

namespace {

struct Setting {
  const char* method;
  ActOrder act_order;
  Ranges ranges;
};

/// Perplexity of the example on the head of its test text, 4 bits, groups of 128.
double quantized_perplexity(const test::ScratchDir& dir, const Setting& setting) {
  QuantizeJob job;
  job.source = test::example("tiny-llama");
  job.destination = dir / setting.method;
  job.formats = {weight_format_named("marlin")};
  for (const Method& method : methods())
    if (std::string{method.name} == setting.method) job.method = &method;
  job.recipe.scheme = {kU4B8, GroupSize{128}, DType::F16};
  job.options.act_order = setting.act_order;
  job.options.ranges = setting.ranges;
  job.calibration = test::example("shakespeare-calibration.txt");
  job.samples = 32;
  job.seq_len = 256;
  run_quantize(job);
  return evaluate(job.destination, dir / "test.txt", 256).value;
}

}  // namespace

TEST_CASE("GPTQ with static act-order and MSE ranges loses less than half of what rounding loses",
          "[example]") {
  const test::ScratchDir dir;
  test::write_file(dir / "test.txt", test::read_file(test::example("shakespeare-test.txt")).substr(0, 40000));
  const double exact = evaluate(test::example("tiny-llama"), dir / "test.txt", 256).value;
  const double rtn = quantized_perplexity(dir, {"rtn", ActOrder::none, Ranges::minmax});
  const double gptq = quantized_perplexity(dir, {"gptq", ActOrder::fixed_groups, Ranges::mse});
  CAPTURE(exact, rtn, gptq);
  REQUIRE(exact < gptq);
  REQUIRE(gptq - exact < (rtn - exact) / 2);
}
