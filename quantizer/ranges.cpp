#include "quantizer/ranges.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include <fmt/format.h>

#include "packer/format/error.hpp"
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

std::vector<float> candidate_factors(const QuantizerOptions& options) {
  std::vector<float> factors{1.0f};
  if (options.ranges == Ranges::mse)
    for (float p : options.signed_scales ? factor_range(120, 40, -2) : factor_range(99, 20, -1))
      if (p != 1.0f) factors.push_back(p);
  if (options.signed_scales)
    for (std::size_t i = 0, positive = factors.size(); i < positive; ++i) factors.push_back(-factors[i]);
  return factors;
}

/// s^(-1/5) for s >= 0, finite at 0: a guess from the exponent bits, then two steps of third order.
inline float inverse_fifth_root(float s) {
  constexpr float kGuess = 1277500000.0f;  // 1.2 * 127 * 2^23, less what halves the guess's worst error
  const auto bits = static_cast<float>(std::bit_cast<std::int32_t>(s));
  float root = std::bit_cast<float>(static_cast<std::int32_t>(kGuess - 0.2f * bits));
  for (int step = 0; step < 2; ++step) {
    const float square = root * root;
    const float missing = 1.0f - (s * root) * (square * square);  // in this order nothing overflows at s = 0
    root += root * missing * (0.2f + 0.12f * missing);
  }
  return root;
}

inline float power_2_4(float error) {
  const float s = error * error, root = inverse_fifth_root(s);
  const float half = s * root * root;  // s^(3/5)
  return half * half;
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

float largest_magnitude(std::span<const float> weights) {
  float largest = 0;
#pragma omp simd reduction(max : largest)
  for (std::size_t i = 0; i < weights.size(); ++i) largest = std::max(largest, std::abs(weights[i]));
  return largest;
}

}  // namespace

float distance(float error) {
  return power_2_4(error);
}

ScaleSearch::ScaleSearch(const QuantizerOptions& options)
    : type_{options.scheme.type}, dtype_{options.scheme.scale_dtype}, factors_{candidate_factors(options)} {}

float ScaleSearch::operator()(std::span<const float> weights, std::span<const float> importance) const {
  const float largest = largest_magnitude(weights);
  const float unit = largest / (static_cast<float>(type_.max_code()) / 2.0f);
  float best_scale = representable_scale(unit, dtype_);
  if (!std::isfinite(best_scale))
    throw Error(ErrorKind::unsupported,
                fmt::format("max |w| = {} asks for a scale of {}, past {}, the largest {}{}", largest, unit,
                            largest_scale(dtype_), info(dtype_).name,
                            dtype_ == DType::F16 ? "; BF16 scales can hold it" : ""));
  if (factors_.size() == 1 || largest == 0) return best_scale;

  const Levels levels{type_};
  float best = std::numeric_limits<float>::infinity();
  for (const float factor : factors_) {
    const float scale = representable_scale(unit * factor, dtype_);
    if (!std::isfinite(scale)) continue;
    // Distances are summed in units of the scale, where they neither overflow nor vanish; this brings them
    // back.
    const float weight_of_unit = std::pow(std::abs(scale) / largest, 2.4f);
    const float sum =
        weight_of_unit * sum_distance(weights, importance, 1.0f / scale, levels, best / weight_of_unit);
    if (sum < best) {
      best = sum;
      best_scale = scale;
    }
  }
  return best_scale;
}

MatrixF find_scales(ConstMatrixRef weight, const QuantizerOptions& options) {
  const ScaleSearch search{options};
  const K k{weight.rows()};
  const std::int64_t rows = options.scheme.rows_per_group(k);
  MatrixF scales(options.scheme.groups(k).value, weight.cols());
  parallel_for(weight.cols(), [&](Eigen::Index n) {
    for (Eigen::Index group = 0; group < scales.rows(); ++group)
      within(fmt::format("group {} of output {}", group, n), [&] {
        scales(group, n) = search({weight.col(n).data() + group * rows, static_cast<std::size_t>(rows)});
      });
  });
  return scales;
}

}  // namespace mpk
