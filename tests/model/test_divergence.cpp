#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include "model/divergence.hpp"
#include "packer/format/error.hpp"
#include "random_decoder.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

namespace {

/// One RMS norm without an eps, then the head: with hidden 2 and an embedding of (1, 1), a token's logits are
/// the sums of the head's columns.
class BigramWeights : public WeightSource {
 public:
  explicit BigramWeights(std::vector<float> logits) : logits_{std::move(logits)} {}
  bool contains(const std::string&) const override { return true; }
  MatrixF load(const std::string& name) const override {
    const auto vocab = static_cast<Eigen::Index>(logits_.size());
    if (name == "model.norm.weight") return MatrixF::Ones(2, 1);
    if (name == "model.embed_tokens.weight") return MatrixF::Ones(2, vocab);
    MatrixF head(2, vocab);
    for (Eigen::Index v = 0; v < vocab; ++v)
      head.col(v).setConstant(logits_[static_cast<std::size_t>(v)] / 2);
    return head;
  }

 private:
  std::vector<float> logits_;
};

DecoderConfig bigram_config(std::int64_t vocab) {
  DecoderConfig config;
  config.hidden = 2;
  config.num_layers = 0;
  config.vocab = vocab;
  config.head_dim = config.num_heads = config.num_kv_heads = config.intermediate = 2;
  config.norm_eps = 0;
  return config;
}

std::vector<std::int32_t> counting_tokens(const DecoderConfig& config, std::int64_t count) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<std::int32_t>(i * i * 31 % static_cast<std::size_t>(config.vocab));
  return tokens;
}

Eigen::ArrayXd log_softmax(const Eigen::VectorXf& logits) {
  const Eigen::ArrayXd scores = logits.cast<double>().array() - double{logits.maxCoeff()};
  return scores - std::log(scores.exp().sum());
}

}  // namespace

TEST_CASE("the divergence of a small distribution, by hand", "[model][divergence]") {
  // p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): KL(p || q) = 1/2 ln 2 - 1/4 ln 2 = 1/4 ln 2.
  const DecoderConfig config = bigram_config(3);
  const float half = std::log(0.5f), quarter = std::log(0.25f);
  const BigramWeights p{{half, quarter, quarter}}, q{{quarter, half, quarter}};
  const Decoder reference{config, p}, model{config, q};
  const std::vector<std::int32_t> tokens{0, 1, 2, 0, 1, 1};
  const Comparison result = compare(model, reference, tokens, 3);
  const double expected = 0.25 * std::log(2.0);
  CHECK(std::abs(result.divergence.mean - expected) < 1e-6);
  CHECK(std::abs(result.divergence.percentile_99 - expected) < 1e-6);
  CHECK(std::abs(result.divergence.largest - expected) < 1e-6);
  CHECK(result.divergence.standard_error < 1e-6);
  CHECK(result.divergence.top1_agreement == 0);
  CHECK(result.model.predictions == 4);
  // The tokens that come: 1, 2 and 1, 1.
  CHECK(std::abs(std::log(result.reference.value) - 4 * std::log(4.0) / 4) < 1e-6);
  CHECK(std::abs(std::log(result.model.value) - (3 * std::log(2.0) + std::log(4.0)) / 4) < 1e-6);
}

TEST_CASE("a model does not diverge from itself", "[model][divergence]") {
  const DecoderConfig config = test::small_config();
  const test::RandomWeights weights{config, test::seed()};
  const Decoder decoder{config, weights};
  const auto tokens = counting_tokens(config, 60);
  const Comparison result = compare(decoder, decoder, tokens, 20);
  CHECK(result.divergence.mean == 0);
  CHECK(result.divergence.largest == 0);
  CHECK(result.divergence.top1_agreement == 1);
  CHECK(result.model.value == result.reference.value);
  CHECK(result.model.value == perplexity(decoder, tokens, 20).value);
}

TEST_CASE("the divergence is that of the logits", "[model][divergence]") {
  const DecoderConfig config = test::small_config();  // two tiles of the vocabulary
  const test::RandomWeights weights{config, test::seed()}, others{config, test::seed() + 1};
  const Decoder reference{config, weights}, model{config, others};
  const std::int64_t length = GENERATE(2, 9, 300), windows = GENERATE(1, 3);
  CAPTURE(length, windows);
  const auto tokens = counting_tokens(config, windows * length + length - 1);
  const std::span whole{tokens.data(), static_cast<std::size_t>(windows * length)};
  const MatrixF reference_logits = logits(reference, whole, length),
                model_logits = logits(model, whole, length);

  std::vector<double> expected;
  double agreements = 0;
  for (std::int64_t i = 0; i < windows * length; ++i) {
    if (i % length == length - 1) continue;
    const Eigen::ArrayXd p = log_softmax(reference_logits.col(i)), q = log_softmax(model_logits.col(i));
    expected.push_back((p.exp() * (p - q)).sum());
    Eigen::Index first_p = 0, first_q = 0;
    p.maxCoeff(&first_p);
    q.maxCoeff(&first_q);
    agreements += first_p == first_q;
  }
  const Comparison result = compare(model, reference, tokens, length);
  const auto count = static_cast<double>(expected.size());
  double mean = 0, squares = 0;
  for (const double value : expected) mean += value / count;
  for (std::int64_t w = 0; w < windows; ++w) {
    double own = 0;
    for (std::int64_t i = 0; i < length - 1; ++i)
      own += expected[static_cast<std::size_t>(w * (length - 1) + i)] / static_cast<double>(length - 1);
    squares += (own - mean) * (own - mean);
  }
  std::ranges::sort(expected);
  const auto rank = static_cast<std::size_t>(std::ceil(0.99 * count)) - 1;
  const auto near = [](double a, double b) { return std::abs(a - b) <= 1e-5 * std::max(1.0, std::abs(b)); };
  CHECK(near(result.divergence.mean, mean));
  CHECK(near(result.divergence.percentile_99, expected[rank]));
  CHECK(near(result.divergence.largest, expected.back()));
  CHECK(near(result.divergence.top1_agreement, agreements / count));
  if (windows > 1)
    CHECK(near(result.divergence.standard_error,
               std::sqrt(squares / static_cast<double>(windows - 1) / static_cast<double>(windows))));
  CHECK(result.model.predictions == windows * (length - 1));
}

TEST_CASE("what cannot be compared is refused", "[model][divergence]") {
  const DecoderConfig config = test::small_config();
  DecoderConfig other_config = config;
  other_config.vocab = 600;
  const test::RandomWeights weights{config, 1}, others{other_config, 1};
  const Decoder decoder{config, weights}, other{other_config, others};
  const auto tokens = counting_tokens(other_config, 40);
  CHECK_THROWS_AS(compare(decoder, other, tokens, 8), Error);
  CHECK_THROWS_AS(compare(decoder, decoder, std::span{tokens}.first(7), 8), Error);
  CHECK_THROWS_AS(compare(decoder, decoder, tokens, 1), Error);
}
