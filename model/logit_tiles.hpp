#pragma once
// The logits of many tokens, tile by tile: as few of the (vocab, M) numbers in memory as threads need, and
// sums over the vocabulary whose bits do not depend on how many threads there are.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <omp.h>
#include <optional>
#include <vector>

#include "model/elementwise.hpp"
#include "quantizer/linalg/gemm.hpp"

namespace mpk {

// One task's logits: (kVocabTile, kTokenTile) floats stay in a core's own cache until they are summed.
inline constexpr std::int64_t kVocabTile = 512, kTokenTile = 256;

constexpr std::int64_t num_vocab_tiles(std::int64_t vocab) {
  return (vocab + kVocabTile - 1) / kVocabTile;
}

/// A model's last step: logits = head^T x, capped.
struct LogitInput {
  const MatrixF& head;           ///< (hidden, vocab)
  const MatrixF& x;              ///< (hidden, M), normed
  std::optional<float> softcap;  ///< as in Decoder::logit_softcap()
};

/// Part of one token's logits, of every model.
template <std::size_t kModels>
struct LogitTile {
  std::int64_t token, vocab_tile, first_id, ids;
  std::array<const float*, kModels> logits;  ///< ids values each
};

/// Calls `visit` once for every tile of the vocabulary of the first length - 1 tokens of each window, from
/// any thread. The models have vocabularies of one size.
template <std::size_t kModels, class Visit>
void for_each_logit_tile(const std::array<LogitInput, kModels>& models, std::int64_t length, Visit&& visit) {
  const std::int64_t vocab = models[0].head.cols(), predictions = length - 1;
  const std::int64_t windows = models[0].x.cols() / length;
  const std::int64_t vocab_tiles = num_vocab_tiles(vocab);
  const std::int64_t token_tiles = (predictions + kTokenTile - 1) / kTokenTile;
  const std::int64_t tasks = windows * token_tiles * vocab_tiles;
  // Before the parallel region, which an exception may not leave.
  std::vector<MatrixF> tiles(static_cast<std::size_t>(omp_get_max_threads()),
                             MatrixF(kVocabTile, kTokenTile * static_cast<std::int64_t>(kModels)));
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t task = 0; task < tasks; ++task) {
    const std::int64_t vocab_tile = task % vocab_tiles, first_id = vocab_tile * kVocabTile;
    const std::int64_t window = task / vocab_tiles / token_tiles;
    const std::int64_t first_in_window = task / vocab_tiles % token_tiles * kTokenTile;
    const std::int64_t first = window * length + first_in_window;
    const std::int64_t ids = std::min(kVocabTile, vocab - first_id);
    const std::int64_t count = std::min(kTokenTile, predictions - first_in_window);
    MatrixF& tile = tiles[static_cast<std::size_t>(omp_get_thread_num())];
    for (std::size_t i = 0; i < kModels; ++i)
      gemm(Op::transpose, Op::none, 1.0f, models[i].head.middleCols(first_id, ids),
           models[i].x.middleCols(first, count), 0.0f,
           tile.block(0, static_cast<std::int64_t>(i) * kTokenTile, ids, count));
    for (std::int64_t col = 0; col < count; ++col) {
      LogitTile<kModels> part{first + col, vocab_tile, first_id, ids, {}};
      for (std::size_t i = 0; i < kModels; ++i) {
        float* logits = tile.col(static_cast<std::int64_t>(i) * kTokenTile + col).data();
        if (models[i].softcap) cap(logits, ids, *models[i].softcap);
        part.logits[i] = logits;
      }
      visit(part);
    }
  }
}

/// sum of exp(logit) over part of the vocabulary, as exp(top) * sum.
struct PartialSum {
  float top = 0;
  double sum = 0;
};

inline PartialSum partial_sum(const float* logits, std::int64_t n) {
  const float top = largest(logits, n);
  return {top, sum_in_lanes<double>(n, [=](std::int64_t i) { return double{exponential(logits[i] - top)}; })};
}

/// sum of exp(logit) over n parts as exp(top) * sum. `part(i)` returns the i-th.
template <class Part>
PartialSum total_sum(std::int64_t n, Part&& part) {
  PartialSum total{part(0).top, 0};
  for (std::int64_t i = 1; i < n; ++i) total.top = part(i).top > total.top ? part(i).top : total.top;
  for (std::int64_t i = 0; i < n; ++i)
    total.sum += part(i).sum * std::exp(double{part(i).top} - double{total.top});
  return total;
}

inline double log_of(const PartialSum& total) {
  return double{total.top} + std::log(total.sum);
}

}  // namespace mpk
