#include "model/cross_entropy.hpp"

#include <algorithm>
#include <cmath>
#include <omp.h>
#include <vector>

#include <fmt/format.h>

#include "model/elementwise.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

// One task's logits: (kVocabTile, kTokenTile) floats stay in a core's own cache until they are summed.
constexpr std::int64_t kVocabTile = 512, kTokenTile = 256;

/// sum of exp(logit) over part of the vocabulary, as exp(top) * sum.
struct PartialSum {
  float top = 0;
  double sum = 0;
};

PartialSum partial_sum(const float* logits, std::int64_t n) {
  const float top = largest(logits, n);
  return {top, sum_in_lanes<double>(n, [=](std::int64_t i) { return double{exponential(logits[i] - top)}; })};
}

double log_of_total(const PartialSum* parts, std::int64_t n) {
  float top = parts[0].top;
  for (std::int64_t i = 1; i < n; ++i) top = parts[i].top > top ? parts[i].top : top;
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += parts[i].sum * std::exp(double{parts[i].top} - double{top});
  return double{top} + std::log(sum);
}

/// cross_entropy() of one chunk whose final norm is done.
void add_chunk(const MatrixF& head, const MatrixF& x, std::span<const std::int32_t> tokens,
               std::int64_t length, Eigen::Ref<Eigen::VectorXd> losses) {
  const std::int64_t vocab = head.cols(), predictions = length - 1;
  const std::int64_t vocab_tiles = (vocab + kVocabTile - 1) / kVocabTile;
  const std::int64_t token_tiles = (predictions + kTokenTile - 1) / kTokenTile;
  const std::int64_t tasks = losses.size() * token_tiles * vocab_tiles;
  std::vector<PartialSum> parts(static_cast<std::size_t>(x.cols() * vocab_tiles));
  std::vector<float> target_logits(static_cast<std::size_t>(x.cols()));
  // Before the parallel region, which an exception may not leave.
  std::vector<MatrixF> tiles(static_cast<std::size_t>(omp_get_max_threads()),
                             MatrixF(kVocabTile, kTokenTile));
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t task = 0; task < tasks; ++task) {
    const std::int64_t vocab_tile = task % vocab_tiles, first_id = vocab_tile * kVocabTile;
    const std::int64_t window = task / vocab_tiles / token_tiles;
    const std::int64_t first_in_window = task / vocab_tiles % token_tiles * kTokenTile;
    const std::int64_t first = window * length + first_in_window;
    const std::int64_t ids = std::min(kVocabTile, vocab - first_id);
    const std::int64_t count = std::min(kTokenTile, predictions - first_in_window);
    MatrixF& tile = tiles[static_cast<std::size_t>(omp_get_thread_num())];
    gemm(Op::transpose, Op::none, 1.0f, head.middleCols(first_id, ids), x.middleCols(first, count), 0.0f,
         tile.topLeftCorner(ids, count));
    for (std::int64_t i = 0; i < count; ++i) {
      const auto token = static_cast<std::size_t>(first + i);
      parts[token * static_cast<std::size_t>(vocab_tiles) + static_cast<std::size_t>(vocab_tile)] =
          partial_sum(tile.col(i).data(), ids);
      const std::int64_t target = tokens[token + 1] - first_id;
      if (target >= 0 && target < ids) target_logits[token] = tile(target, i);
    }
  }
#pragma omp parallel for schedule(static)
  for (std::int64_t window = 0; window < losses.size(); ++window)
    for (std::int64_t i = 0; i < predictions; ++i) {
      const std::int64_t token = window * length + i;
      losses[window] += log_of_total(parts.data() + token * vocab_tiles, vocab_tiles) -
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
        decoder.head(), normed,
        tokens.subspan(static_cast<std::size_t>(first * length), static_cast<std::size_t>(windows * length)),
        length, losses.segment(first, windows));
  }
  return losses;
}

}  // namespace mpk
