#include "model/cross_entropy.hpp"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "model/logit_tiles.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

/// cross_entropy() of one chunk whose final norm is done.
void add_chunk(const LogitInput& model, std::span<const std::int32_t> tokens, std::int64_t length,
               Eigen::Ref<Eigen::VectorXd> losses) {
  const std::int64_t vocab_tiles = num_vocab_tiles(model.head.cols());
  std::vector<PartialSum> parts(static_cast<std::size_t>(model.x.cols() * vocab_tiles));
  std::vector<float> target_logits(static_cast<std::size_t>(model.x.cols()));
  for_each_logit_tile<1>({model}, length, [&](const LogitTile<1>& tile) {
    const auto token = static_cast<std::size_t>(tile.token);
    parts[static_cast<std::size_t>(tile.token * vocab_tiles + tile.vocab_tile)] =
        partial_sum(tile.logits[0], tile.ids);
    const std::int64_t target = tokens[token + 1] - tile.first_id;
    if (target >= 0 && target < tile.ids) target_logits[token] = tile.logits[0][target];
  });
#pragma omp parallel for schedule(static)
  for (std::int64_t window = 0; window < losses.size(); ++window)
    for (std::int64_t token = window * length; token < (window + 1) * length - 1; ++token) {
      const PartialSum* own = parts.data() + token * vocab_tiles;
      losses[window] += log_of(total_sum(vocab_tiles, [=](std::int64_t i) { return own[i]; })) -
                        double{target_logits[static_cast<std::size_t>(token)]};
    }
}

}  // namespace

Eigen::VectorXd cross_entropy(const Decoder& decoder, ConstMatrixRef x, std::span<const std::int32_t> tokens,
                              std::int64_t length) {
  if (length < 2 || x.cols() % length != 0 || x.cols() != static_cast<std::int64_t>(tokens.size()))
    throw Error{ErrorKind::bad_input,
                fmt::format("{} states and {} tokens are no windows of {}", x.cols(), tokens.size(), length)};
  Eigen::VectorXd losses = Eigen::VectorXd::Zero(x.cols() / length);
  const std::int64_t chunk = windows_per_chunk(decoder.config(), length);
  MatrixF normed;
  for (std::int64_t first = 0; first < losses.size(); first += chunk) {
    const std::int64_t windows = std::min<std::int64_t>(chunk, losses.size() - first);
    decoder.final_norm(x.middleCols(first * length, windows * length), normed);
    add_chunk(
        {decoder.head(), normed, decoder.logit_softcap()},
        tokens.subspan(static_cast<std::size_t>(first * length), static_cast<std::size_t>(windows * length)),
        length, losses.segment(first, windows));
  }
  return losses;
}

}  // namespace mpk
