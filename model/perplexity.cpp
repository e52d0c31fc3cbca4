#include <cmath>

#include <fmt/format.h>

#include "model/cross_entropy.hpp"
#include "model/decoder.hpp"
#include "packer/format/error.hpp"

namespace mpk {

void require_predictions(std::int64_t num_tokens, std::int64_t length) {
  if (length < 2 || num_tokens < length)
    throw Error{ErrorKind::bad_input,
                fmt::format("{} tokens in windows of {} leave nothing to predict", num_tokens, length)};
}

Perplexity perplexity(const Decoder& decoder, std::span<const std::int32_t> tokens, std::int64_t length,
                      const std::function<void(std::int64_t done, std::int64_t total)>& progress) {
  const auto num_tokens = static_cast<std::int64_t>(tokens.size());
  require_predictions(num_tokens, length);
  Perplexity result;
  result.windows = num_tokens / length;
  result.predictions = result.windows * (length - 1);
  tokens = tokens.first(static_cast<std::size_t>(result.windows * length));

  const std::int64_t steps = decoder.config().num_layers + 1;
  const auto report = [&](std::int64_t done) {
    if (progress) progress(done, steps);
  };
  MatrixF x = decoder.embed(tokens);
  for (std::int64_t index = 0; index < decoder.config().num_layers; ++index) {
    decoder.forward(decoder.load_layer(index), length, x);
    report(index + 1);
  }
  const Eigen::VectorXd losses = cross_entropy(decoder, x, tokens, length);
  double total = 0;
  for (const double loss : losses) total += loss;
  result.value = std::exp(total / static_cast<double>(result.predictions));
  report(steps);
  return result;
}

}  // namespace mpk
