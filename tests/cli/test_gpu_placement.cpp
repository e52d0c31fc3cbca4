// What the GPU keeps: arithmetic that needs no GPU.

#include <stdexcept>

#include "cli/pipeline/gpu_placement.hpp"
#include "packer/format/error.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

namespace {

DecoderConfig llama_8b() {
  DecoderConfig config;
  config.hidden = 4096, config.intermediate = 14336, config.num_layers = 32, config.vocab = 128256;
  config.num_heads = 32, config.num_kv_heads = 8, config.head_dim = 128;
  return config;
}
const Method& gptq_method() {
  for (const Method& method : methods())
    if (std::string{method.name} == "gptq") return method;
  throw std::logic_error{"no gptq"};
}
QuantizeJob job(bool whole_recipe) {
  QuantizeJob job;
  job.method = &gptq_method();
  job.samples = 128, job.seq_len = 2048;
  job.true_sequential = whole_recipe;
  job.target_correction = whole_recipe ? 0.5 : 0;
  return job;
}
constexpr std::int64_t kTokens = 128 * 2048, kGiga = 1'000'000'000;

}  // namespace

TEST_CASE("everything of an 8B model is on the GPU by default", "[placement]") {
  for (const bool recipe : {false, true}) {
    const GpuPlacement placement =
        place_on_gpu(llama_8b(), job(recipe), GpuCompute::bfloat16, kTokens, kDefaultGpuMemory);
    REQUIRE((placement.x && placement.heads));
    REQUIRE(placement.float_x == recipe);
    REQUIRE(placement.host_bytes == 0);
    REQUIRE(placement.gpu_bytes <= kDefaultGpuMemory);
  }
}

TEST_CASE("with little GPU memory the activations go to the host, the rarest travellers first",
          "[placement]") {
  const GpuPlacement plain = place_on_gpu(llama_8b(), job(false), GpuCompute::bfloat16, kTokens, 6 * kGiga);
  REQUIRE(!plain.x);
  REQUIRE(plain.gpu_bytes <= 6 * kGiga);
  REQUIRE(plain.host_bytes == kTokens * 4096 * 4);

  const DecoderConfig config = llama_8b();
  const GpuPlacement all = place_on_gpu(config, job(true), GpuCompute::bfloat16, kTokens, kDefaultGpuMemory);
  const GpuPlacement some = place_on_gpu(config, job(true), GpuCompute::bfloat16, kTokens, all.gpu_bytes - 1);
  REQUIRE((some.x && some.heads && some.float_x && !some.float_heads));
  REQUIRE(some.host_bytes == kTokens * 4096 * 2);
  REQUIRE(place_on_gpu(config, job(true), GpuCompute::bfloat16, kTokens, all.fixed_bytes).gpu_bytes ==
          all.fixed_bytes);
}

TEST_CASE("what cannot fit is refused with the figures", "[placement]") {
  const GpuPlacement all =
      place_on_gpu(llama_8b(), job(true), GpuCompute::bfloat16, kTokens, kDefaultGpuMemory);
  REQUIRE_THROWS_AS(place_on_gpu(llama_8b(), job(true), GpuCompute::bfloat16, kTokens, all.fixed_bytes - 1),
                    Error);
  QuantizeJob tight = job(false);
  tight.host_memory = 4 * kGiga;
  REQUIRE_THROWS_AS(place_on_gpu(llama_8b(), tight, GpuCompute::bfloat16, kTokens, 6 * kGiga), Error);
  tight.host_memory = 5 * kGiga;
  REQUIRE(place_on_gpu(llama_8b(), tight, GpuCompute::bfloat16, kTokens, 6 * kGiga).host_bytes < 5 * kGiga);
}
