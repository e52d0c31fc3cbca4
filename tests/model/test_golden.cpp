// Logits of transformers for tiny decoders of every family (tests/golden/make_model_golden.py).

#include <vector>

#include "checkpoint_weights.hpp"
#include "model/decoder.hpp"
#include "model/linear_specs.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;

namespace {

/// Both sides round in float32. A logit passes through some ten sums of about 100 terms; with the random-walk
/// growth of rounding that is 10 * sqrt(100) * 2^-24 = 6e-6 of the largest logit, and peaky attention
/// amplifies it. A wrong frequency, mask, bias or order of heads is off by more than 1e-2.
constexpr float kTolerance = 5e-5f;

/// (vocab, tokens) of a row-major (windows, length, vocab) tensor.
MatrixF columns(const TensorView& tensor) {
  const Eigen::VectorXf values = test::elements(tensor);
  return values.reshaped(tensor.shape.back(), values.size() / tensor.shape.back());
}

}  // namespace

TEST_CASE("logits of every family are those of transformers", "[model][golden]") {
  const std::string name =
      GENERATE("llama-llama3-rope", "llama-llama3-rope-old-spelling", "llama-linear-rope-biases",
               "mistral-window", "qwen2-window-from-layer-1", "qwen3", "qwen3-biases-layer-types",
               "phi3-longrope-long", "phi3-longrope-short-window-old-spelling", "gemma2", "gemma3-local-rope",
               "gemma3-old-spelling", "mixtral", "qwen3-moe-mixed-layers", "qwen3-moe-normalized",
               "qwen2-yarn", "deepseek-v2-groups", "deepseek-v3-yarn", "gemma3-in-larger-model");
  CAPTURE(name);
  const Checkpoint checkpoint = Checkpoint::open(test::golden("model/" + name) / "model.safetensors");
  const auto config = nlohmann::json::parse(test::read_file(test::golden("model/" + name) / "config.json"));
  const Checkpoint expected = Checkpoint::open(test::golden("model/" + name) / "expected.safetensors");
  const test::CheckpointWeights weights{checkpoint};
  DecoderConfig parsed = parse_config(config);
  locate_tensors(parsed, weights);
  const Decoder decoder{parsed, weights};

  const std::int64_t length = expected.tensor("ids").shape.at(1);
  const bool is_cut = expected.contains("last_logits");  // of each window
  const TensorView stored = expected.tensor(is_cut ? "last_logits" : "logits");
  const MatrixF oracle = columns(stored);
  const MatrixF whole = logits(decoder, test::integers(expected.tensor("ids")), length);
  MatrixF ours(whole.rows(), oracle.cols());
  const std::int64_t kept = stored.shape.at(1);
  for (Eigen::Index window = 0; window < whole.cols() / length; ++window)
    ours.middleCols(window * kept, kept) = whole.middleCols((window + 1) * length - kept, kept);
  REQUIRE(ours.rows() == oracle.rows());
  REQUIRE(ours.cols() == oracle.cols());
  const float worst = (ours - oracle).cwiseAbs().maxCoeff() / oracle.cwiseAbs().maxCoeff();
  CAPTURE(worst);
  CHECK(worst < kTolerance);
}

TEST_CASE("logits of the example checkpoint are those of transformers", "[model][golden]") {
  const Checkpoint checkpoint = Checkpoint::open(test::example("tiny-llama"));
  const Checkpoint expected = Checkpoint::open(test::golden("model/tiny-llama.expected.safetensors"));
  const test::CheckpointWeights weights{checkpoint};
  const Decoder decoder{parse_config(checkpoint.config()), weights};

  const std::vector<std::int32_t> ids = test::integers(expected.tensor("ids"));
  const MatrixF ours = logits(decoder, ids, static_cast<std::int64_t>(ids.size()));
  const float tolerance = kTolerance * ours.cwiseAbs().maxCoeff();

  const MatrixF sample = columns(expected.tensor("every_64th_logit"));
  REQUIRE(sample.cols() == ours.cols());
  CHECK((ours(Eigen::seq(0, Eigen::last, 64), Eigen::all) - sample).cwiseAbs().maxCoeff() < tolerance);

  const MatrixF top = columns(expected.tensor("top_logits"));
  const std::vector<std::int32_t> top_ids = test::integers(expected.tensor("top_ids"));
  float worst = 0;
  for (Eigen::Index token = 0; token < top.cols(); ++token) {
    for (Eigen::Index rank = 0; rank < top.rows(); ++rank) {
      const auto id = top_ids[static_cast<std::size_t>(token * top.rows() + rank)];
      worst = std::max(worst, std::abs(ours(id, token) - top(rank, token)));
    }
    worst = std::max(worst, ours.col(token).maxCoeff() - top(0, token));
  }
  CHECK(worst < tolerance);
}
