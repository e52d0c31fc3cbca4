#include "quantizer/ranges.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "quantizer/distance.hpp"
#include "quantizer/linalg/parallel.hpp"
#include "quantizer/rounding.hpp"

namespace mpk {
namespace {

/// First, last and step in hundredths, so that the candidates are the decimal fractions they look like.
std::vector<float> factor_range(int first, int last, int step) {
  std::vector<float> factors;
  for (int p = first; step > 0 ? p <= last : p >= last; p += step)
    factors.push_back(static_cast<float>(p) / 100.0f);
  return factors;
}

/// Sum of |w / scale - level|^2.4, or anything above `limit` once the sum has passed it.
float sum_distance(std::span<const float> weights, std::span<const float> importance, float inverse_scale,
                   Levels levels, float limit) {
  constexpr std::size_t kStretch = 64;  // weights between two looks at the limit
  float total = 0;
  for (std::size_t begin = 0; begin < weights.size() && total <= limit; begin += kStretch) {
    const std::size_t end = std::min(begin + kStretch, weights.size());
    float sum = 0;
    if (importance.empty()) {
#pragma omp simd reduction(+ : sum)
      for (std::size_t i = begin; i < end; ++i) {
        const float w = weights[i] * inverse_scale;
        sum += power_2_4(w - levels.nearest(w));
      }
    } else {
#pragma omp simd reduction(+ : sum)
      for (std::size_t i = begin; i < end; ++i) {
        const float w = weights[i] * inverse_scale;
        sum += importance[i] * power_2_4(w - levels.nearest(w));
      }
    }
    total += sum;
  }
  return total;
}

struct Extremes {
  float lowest = 0, highest = 0;
};

/// Of the weights and zero.
Extremes extremes_of(std::span<const float> weights) {
  float lowest = 0, highest = 0;
#pragma omp simd reduction(min : lowest) reduction(max : highest)
  for (std::size_t i = 0; i < weights.size(); ++i) {
    lowest = std::min(lowest, weights[i]);
    highest = std::max(highest, weights[i]);
  }
  return {lowest, highest};
}

}  // namespace

std::vector<float> candidate_factors(const QuantizerOptions& options) {
  // A range that need not hold both sides alike may also be too short for one of them.
  const bool wide = options.signed_scales || options.scheme.zero_points == ZeroPoints::integer;
  std::vector<float> factors{1.0f};
  if (options.ranges != Ranges::minmax)
    for (float p : wide ? factor_range(120, 40, -2) : factor_range(99, 20, -1))
      if (p != 1.0f) factors.push_back(p);
  if (options.signed_scales && options.scheme.zero_points == ZeroPoints::implied)
    for (std::size_t i = 0, positive = factors.size(); i < positive; ++i) factors.push_back(-factors[i]);
  return factors;
}

RangeSearch::RangeSearch(const QuantizerOptions& options)
    : scheme_{options.scheme}, factors_{candidate_factors(options)} {}

GroupRange RangeSearch::best_of(std::span<const float> weights, std::span<const float> importance, float unit,
                                float largest, float first_zero, float last_zero, GroupRange best) const {
  float least = std::numeric_limits<float>::infinity();
  for (const float factor : factors_) {
    const float scale = representable_scale(unit * factor, scheme_.scale_dtype);
    if (!std::isfinite(scale)) continue;
    // Distances are summed in units of the scale, where they neither overflow nor vanish; this brings them
    // back.
    const float weight_of_unit = std::pow(std::abs(scale) / largest, 2.4f);
    for (float zero = first_zero; zero <= last_zero; ++zero) {
      const Levels levels{scheme_.type, zero};
      const float sum =
          weight_of_unit * sum_distance(weights, importance, 1.0f / scale, levels, least / weight_of_unit);
      if (sum < least) {
        least = sum;
        best = {scale, zero};
      }
    }
  }
  return best;
}

GroupRange RangeSearch::operator()(std::span<const float> weights, std::span<const float> importance) const {
  const auto max_code = static_cast<float>(scheme_.type.max_code());
  const Extremes extremes = extremes_of(weights);
  const float largest = std::max(extremes.highest, -extremes.lowest);
  const bool stored_zero = scheme_.zero_points == ZeroPoints::integer;
  // Zero itself stays representable.
  const float span = stored_zero ? extremes.highest - extremes.lowest : 2 * largest;
  const float unit = span / max_code;
  const float scale = representable_scale(unit, scheme_.scale_dtype);
  if (!std::isfinite(scale))
    throw Error(ErrorKind::unsupported,
                fmt::format("weights from {} to {} ask for a scale of {}, past {}, the largest {}{}",
                            extremes.lowest, extremes.highest, unit, largest_scale(scheme_.scale_dtype),
                            info(scheme_.scale_dtype).name,
                            scheme_.scale_dtype == DType::F16 ? "; BF16 scales can hold it" : ""));
  const auto as_zero = [&](float value) { return std::clamp(std::nearbyint(value), 1.0f, max_code); };
  const float middle = stored_zero ? as_zero(span > 0 ? -extremes.lowest / unit : max_code / 2)
                                   : static_cast<float>(scheme_.type.bias);
  const GroupRange plain{scale, middle};
  if (factors_.size() == 1 || largest == 0) return plain;
  if (!stored_zero) return best_of(weights, importance, unit, largest, middle, middle, plain);
  return best_of(weights, importance, unit, largest, as_zero(middle - 1), as_zero(middle + 1), plain);
}

QuantizedMatrix find_ranges(ConstMatrixRef weight, const QuantizerOptions& options,
                            const Eigen::VectorXf& importance) {
  const RangeSearch search{options};
  const K k{weight.rows()};
  const std::int64_t rows = options.scheme.rows_per_group(k);
  QuantizedMatrix q = make_matrix(options.scheme, k, N{weight.cols()});
  parallel_for(weight.cols(), [&](Eigen::Index n) {
    for (Eigen::Index group = 0; group < q.scales.rows(); ++group)
      within(fmt::format("group {} of output {}", group, n), [&] {
        const auto size = static_cast<std::size_t>(rows);
        const std::span<const float> counts = importance.size() > 0
                                                  ? std::span{importance.data() + group * rows, size}
                                                  : std::span<const float>{};
        const GroupRange range = search({weight.col(n).data() + group * rows, size}, counts);
        q.scales(group, n) = range.scale;
        if (options.scheme.zero_points == ZeroPoints::integer)
          q.zero_points(group, n) = static_cast<std::int16_t>(range.zero);
      });
  });
  return q;
}

}  // namespace mpk
