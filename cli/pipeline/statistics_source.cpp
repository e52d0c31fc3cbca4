#include "cli/pipeline/statistics_source.hpp"

#include <utility>

#include "cli/pipeline/timer.hpp"

namespace mpk {

FloatModelStatistics::FloatModelStatistics(const Decoder& decoder, std::span<const std::int32_t> windows,
                                           std::int64_t length,
                                           std::function<bool(const std::string&)> wanted,
                                           CalibrationSeconds& seconds)
    : decoder_{decoder},
      length_{length},
      seconds_{seconds},
      calibration_{decoder.config(), length, std::move(wanted), seconds} {
  Timer timer{seconds_.forward};
  activations_.x = decoder.embed(windows);
}

GroupStatistics FloatModelStatistics::of(DecoderLayer& layer) {
  return calibration_.pass_through(layer, activations_);
}

void FloatModelStatistics::skip(DecoderLayer& layer) {
  Timer timer{seconds_.forward};
  decoder_.forward(layer, length_, activations_.x);
}

}  // namespace mpk
