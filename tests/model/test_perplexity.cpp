#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "model/cross_entropy.hpp"
#include "model/decoder.hpp"
#include "packer/format/error.hpp"
#include "random_decoder.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

namespace {

std::vector<std::int32_t> counting_tokens(const DecoderConfig& config, std::int64_t count) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<std::int32_t>(i * i * 31 % static_cast<std::size_t>(config.vocab));
  return tokens;
}

/// -log softmax(logits)[target], in double throughout.
double loss(const Eigen::VectorXf& logits, std::int32_t target) {
  const Eigen::ArrayXd scores = logits.cast<double>().array();
  return std::log((scores - scores.maxCoeff()).exp().sum()) + scores.maxCoeff() - scores[target];
}

}  // namespace

TEST_CASE("perplexity is exp of the mean loss over the logits", "[model][perplexity]") {
  const DecoderConfig config = test::small_config();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  const std::int64_t length = GENERATE(2, 9, 300), windows = GENERATE(1, 3);  // 300: two tiles of predictions
  const std::int64_t dropped = length - 1;
  CAPTURE(length, windows);
  const auto tokens = counting_tokens(config, windows * length + dropped);

  const std::span whole{tokens.data(), static_cast<std::size_t>(windows * length)};
  const MatrixF all = logits(decoder, whole, length);
  double total = 0;
  for (std::int64_t i = 0; i < windows * length; ++i)
    if (i % length != length - 1) total += loss(all.col(i), tokens[static_cast<std::size_t>(i + 1)]);

  const Perplexity result = perplexity(decoder, tokens, length);
  CHECK(result.windows == windows);
  CHECK(result.predictions == windows * (length - 1));
  const double exact = std::exp(total / static_cast<double>(result.predictions));
  CHECK(std::abs(result.value - exact) < 1e-5 * exact);
}

TEST_CASE("a window's cross-entropy is the same bits alone and among others", "[model][perplexity]") {
  const DecoderConfig config = test::small_config();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  const std::int64_t length = 1400, windows = 4;  // more windows than one chunk takes
  const auto tokens = counting_tokens(config, windows * length);
  const MatrixF x = decoder.embed(tokens);
  const Eigen::VectorXd together = cross_entropy(decoder, x, tokens, length);
  for (std::int64_t w = 0; w < windows; ++w) {
    const std::span<const std::int32_t> own{tokens.data() + w * length, static_cast<std::size_t>(length)};
    CHECK(cross_entropy(decoder, x.middleCols(w * length, length), own, length)[0] == together[w]);
  }
}

TEST_CASE("perplexity loads each layer once and reports its steps", "[model][perplexity]") {
  const DecoderConfig config = test::small_config();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  const int before = weights.loads;
  std::vector<std::pair<std::int64_t, std::int64_t>> steps;
  perplexity(decoder, counting_tokens(config, 60), 10,
             [&](std::int64_t done, std::int64_t total) { steps.emplace_back(done, total); });
  CHECK(weights.loads - before == 3 * 9);  // seven linears and two norms
  CHECK(steps == std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 4}, {2, 4}, {3, 4}, {4, 4}});
}

TEST_CASE("a text without a prediction has no perplexity", "[model][perplexity]") {
  const DecoderConfig config = test::small_config();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  CHECK_THROWS_AS(perplexity(decoder, {}, 8), Error);
  CHECK_THROWS_AS(perplexity(decoder, counting_tokens(config, 7), 8), Error);
  CHECK_THROWS_AS(perplexity(decoder, counting_tokens(config, 7), 1), Error);
  CHECK_THROWS_AS(perplexity(decoder, std::vector<std::int32_t>{0, 601}, 2), Error);
}
