#include "cli/pipeline/statistics_source.hpp"

#include <utility>

#include "cli/pipeline/timer.hpp"

namespace mpk {

FloatModelStatistics::FloatModelStatistics(const OpenModel& model, std::span<const std::int32_t> windows,
                                           std::int64_t length,
                                           std::function<bool(const std::string&)> wanted,
                                           CalibrationSeconds& seconds)
    : config_{model.config},
      length_{length},
      seconds_{seconds},
      calibration_{model.config, length, std::move(wanted), seconds} {
  Timer timer{seconds_.forward};
  // Embeddings are large and needed once.
  activations_.x = Decoder{model.config, *model.weights, Decoder::Parts::embeddings}.embed(windows);
}

GroupStatistics FloatModelStatistics::of(DecoderLayer& layer) {
  return calibration_.pass_through(layer, activations_);
}

void FloatModelStatistics::skip(DecoderLayer& layer) {
  Timer timer{seconds_.forward};
  forward_layer(config_, layer, length_, activations_.x, {});
}

}  // namespace mpk
