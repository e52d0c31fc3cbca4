#include "model/divergence.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "model/logit_tiles.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

/// Both models' view of one tile of the vocabulary. With l the logits and `top` the tile's largest of the
/// reference, moment = sum exp(l_reference - top) (l_reference - l_model).
struct PairedPart {
  PartialSum model, reference;
  std::int64_t top_model = 0, top_reference = 0;  ///< the ids of the largest logits
  double moment = 0;
};

PairedPart paired_part(const LogitTile<2>& tile) {
  const float *model = tile.logits[0], *reference = tile.logits[1];
  PairedPart part{partial_sum(model, tile.ids), partial_sum(reference, tile.ids)};
  part.top_model = tile.first_id + (std::find(model, model + tile.ids, part.model.top) - model);
  part.top_reference =
      tile.first_id + (std::find(reference, reference + tile.ids, part.reference.top) - reference);
  const float top = part.reference.top;
  part.moment = sum_in_lanes<double>(tile.ids, [=](std::int64_t i) {
    return double{exponential(reference[i] - top)} * (double{reference[i]} - double{model[i]});
  });
  return part;
}

struct TargetLogits {
  float model, reference;
};

PairedPrediction combine(std::span<const PairedPart> parts, TargetLogits target) {
  const auto n = static_cast<std::int64_t>(parts.size());
  const auto at = [&](std::int64_t i) -> const PairedPart& { return parts[static_cast<std::size_t>(i)]; };
  const PartialSum model = total_sum(n, [&](std::int64_t i) { return at(i).model; });
  const PartialSum reference = total_sum(n, [&](std::int64_t i) { return at(i).reference; });
  double moment = 0;
  for (const PairedPart& part : parts)
    moment += part.moment * std::exp(double{part.reference.top} - double{reference.top});
  const auto first = [&](float PartialSum::*top, PartialSum PairedPart::*side, std::int64_t PairedPart::*id) {
    const auto best = std::ranges::max_element(
        parts, {}, [&](const PairedPart& part) { return part.*side.*top; });  // the first of equals
    return *best.*id;
  };
  // sum p (l - l') - log Z + log Z'. Rounding may leave a little less than nothing.
  const double divergence = moment / reference.sum - log_of(reference) + log_of(model);
  return {log_of(model) - double{target.model}, log_of(reference) - double{target.reference},
          divergence < 0 ? 0 : divergence,
          first(&PartialSum::top, &PairedPart::model, &PairedPart::top_model) ==
              first(&PartialSum::top, &PairedPart::reference, &PairedPart::top_reference)};
}

void add_chunk(const std::array<LogitInput, 2>& models, std::span<const std::int32_t> tokens,
               std::int64_t length, std::vector<PairedPrediction>& all) {
  const std::int64_t vocab_tiles = num_vocab_tiles(models[0].head.cols());
  std::vector<PairedPart> parts(tokens.size() * static_cast<std::size_t>(vocab_tiles));
  std::vector<TargetLogits> targets(tokens.size());
  for_each_logit_tile<2>(models, length, [&](const LogitTile<2>& tile) {
    const auto token = static_cast<std::size_t>(tile.token);
    parts[static_cast<std::size_t>(tile.token * vocab_tiles + tile.vocab_tile)] = paired_part(tile);
    const std::int64_t target = tokens[token + 1] - tile.first_id;
    if (target >= 0 && target < tile.ids) targets[token] = {tile.logits[0][target], tile.logits[1][target]};
  });
  std::vector<PairedPrediction> pairs(tokens.size());
#pragma omp parallel for schedule(static)
  for (std::int64_t token = 0; token < static_cast<std::int64_t>(tokens.size()); ++token)
    if (token % length != length - 1)
      pairs[static_cast<std::size_t>(token)] =
          combine(std::span{parts}.subspan(static_cast<std::size_t>(token * vocab_tiles),
                                           static_cast<std::size_t>(vocab_tiles)),
                  targets[static_cast<std::size_t>(token)]);
  for (std::size_t first = 0; first < pairs.size(); first += static_cast<std::size_t>(length)) {
    const auto window = std::span{pairs}.subspan(first, static_cast<std::size_t>(length - 1));
    all.insert(all.end(), window.begin(), window.end());
  }
}

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

Divergence divergence_of(std::vector<double> all, std::int64_t agreements, std::int64_t windows) {
  Divergence result;
  result.mean = mean_of(all);
  result.top1_agreement = static_cast<double>(agreements) / static_cast<double>(all.size());
  if (windows > 1) {
    const std::size_t own = all.size() / static_cast<std::size_t>(windows);
    double squares = 0;
    for (std::size_t window = 0; window < static_cast<std::size_t>(windows); ++window) {
      const double distance = mean_of(std::span{all}.subspan(window * own, own)) - result.mean;
      squares += distance * distance;
    }
    result.standard_error =
        std::sqrt(squares / static_cast<double>(windows - 1) / static_cast<double>(windows));
  }
  const std::size_t rank = (all.size() * 99 + 99) / 100 - 1;  // the smallest value that 99 % do not exceed
  std::ranges::nth_element(all, all.begin() + static_cast<std::ptrdiff_t>(rank));
  result.percentile_99 = all[rank];
  result.largest = *std::ranges::max_element(all);
  return result;
}

}  // namespace

void require_same_vocabulary(const DecoderConfig& model, const DecoderConfig& reference) {
  if (model.vocab != reference.vocab)
    throw Error{ErrorKind::bad_input,
                fmt::format("vocabularies of {} and {} tokens: the distributions cannot be compared",
                            model.vocab, reference.vocab)};
}

Comparison summarize(std::span<const PairedPrediction> pairs, std::int64_t windows) {
  std::vector<double> divergences;
  double model_loss = 0, reference_loss = 0;
  std::int64_t agreements = 0;
  const std::size_t own = pairs.size() / static_cast<std::size_t>(windows);
  for (std::size_t first = 0; first < pairs.size(); first += own) {  // window by window, as perplexity() adds
    double model = 0, reference = 0;
    for (const PairedPrediction& pair : pairs.subspan(first, own)) {
      model += pair.model_loss;
      reference += pair.reference_loss;
      agreements += pair.agree;
      divergences.push_back(pair.divergence);
    }
    model_loss += model;
    reference_loss += reference;
  }
  const auto perplexity_of = [&](double loss) {
    return Perplexity{std::exp(loss / static_cast<double>(pairs.size())), windows, std::ssize(pairs)};
  };
  return {perplexity_of(model_loss), perplexity_of(reference_loss),
          divergence_of(std::move(divergences), agreements, windows)};
}

Comparison compare(const Decoder& model, const Decoder& reference, std::span<const std::int32_t> tokens,
                   std::int64_t length,
                   const std::function<void(std::int64_t done, std::int64_t total)>& progress) {
  const auto num_tokens = static_cast<std::int64_t>(tokens.size());
  require_predictions(num_tokens, length);
  require_same_vocabulary(model.config(), reference.config());
  const std::int64_t windows = num_tokens / length;
  tokens = tokens.first(static_cast<std::size_t>(windows * length));
  const std::int64_t steps = model.config().num_layers + reference.config().num_layers + 1;
  std::int64_t done = 0;
  const auto report = [&] {
    ++done;
    if (progress) progress(done, steps);
  };
  const auto last_state = [&](const Decoder& decoder) {
    MatrixF x = decoder.embed(tokens);
    for (std::int64_t index = 0; index < decoder.config().num_layers; ++index) {
      decoder.forward(decoder.load_layer(index), length, x);
      report();
    }
    return x;
  };
  const MatrixF model_state = last_state(model), reference_state = last_state(reference);

  std::vector<PairedPrediction> pairs;
  pairs.reserve(static_cast<std::size_t>(windows * (length - 1)));
  const std::int64_t chunk =
      std::min(windows_per_chunk(model.config(), length), windows_per_chunk(reference.config(), length));
  MatrixF model_normed, reference_normed;
  for (std::int64_t first = 0; first < windows; first += chunk) {
    const std::int64_t count = std::min(chunk, windows - first);
    model.final_norm(model_state.middleCols(first * length, count * length), model_normed);
    reference.final_norm(reference_state.middleCols(first * length, count * length), reference_normed);
    add_chunk(
        {{{model.head(), model_normed, model.logit_softcap()},
          {reference.head(), reference_normed, reference.logit_softcap()}}},
        tokens.subspan(static_cast<std::size_t>(first * length), static_cast<std::size_t>(count * length)),
        length, pairs);
  }
  Comparison result = summarize(pairs, windows);
  report();
  return result;
}

}  // namespace mpk
