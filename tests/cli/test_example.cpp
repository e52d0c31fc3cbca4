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
  bool whole_recipe = false;  ///< signed scales, true-sequential order, corrected targets, descent
};

/// The example beside its float model on the head of its test text, 4 bits, groups of 128.
Comparison quantized(const test::ScratchDir& dir, const Setting& setting) {
  QuantizeJob job;
  job.source = test::example("tiny-llama");
  job.destination = dir / (setting.whole_recipe ? "whole" : setting.method);
  job.formats = {weight_format_named("marlin")};
  for (const Method& method : methods())
    if (std::string{method.name} == setting.method) job.method = &method;
  job.recipe.scheme = {kU4B8, GroupSize{128}, DType::F16};
  job.options.act_order = setting.act_order;
  job.options.ranges = setting.ranges;
  if (setting.whole_recipe) {
    job.options.signed_scales = job.true_sequential = true;
    job.target_correction = 0.5;
    job.options.descent_sweeps = 4;
  }
  job.calibration = test::example("shakespeare-calibration.txt");
  job.samples = 16;
  job.seq_len = 256;
  run_quantize(job);
  return evaluate_against(job.destination, job.source, dir / "test.txt", 256);
}

}  // namespace

TEST_CASE("GPTQ loses less than half of what rounding loses, the whole recipe a fifth less again",
          "[example]") {
  const test::ScratchDir dir;
  test::write_file(dir / "test.txt", test::read_file(test::example("shakespeare-test.txt")).substr(0, 16000));
  const Comparison rtn = quantized(dir, {"rtn", ActOrder::none, Ranges::minmax});
  const Comparison gptq = quantized(dir, {"gptq", ActOrder::fixed_groups, Ranges::mse});
  const Comparison whole = quantized(dir, {"gptq", ActOrder::fixed_groups, Ranges::mse, true});
  const double exact = rtn.reference.value;
  CAPTURE(exact, rtn.model.value, gptq.model.value, whole.model.value);
  CAPTURE(rtn.divergence.mean, gptq.divergence.mean, whole.divergence.mean);
  REQUIRE(exact < whole.model.value);
  REQUIRE(gptq.model.value - exact < (rtn.model.value - exact) / 2);
  REQUIRE(gptq.divergence.mean < rtn.divergence.mean / 2);
  REQUIRE(whole.divergence.mean < 0.8 * gptq.divergence.mean);
}
