#pragma once
// Which scale, and which zero point if the scheme stores one, a group gets. A scale is p * max|w| / ((2^bits
// - 1) / 2), with a zero point p * (max w - min w) / (2^bits - 1), rounded to what can be stored; the rule is
// a list of candidates p (and, with zero points, the integers around where the range begins) and a distance
// that decides between them. This is the one place where ranges are searched.

#include <span>
#include <vector>

#include "quantizer/methods.hpp"

namespace mpk {

/// weight = (code - zero) * scale
struct GroupRange {
  float scale, zero;
  friend bool operator==(const GroupRange&, const GroupRange&) = default;
};

/// The candidates p, the safest first; negative: the scale is.
std::vector<float> candidate_factors(const QuantizerOptions& options);

class RangeSearch {
 public:
  explicit RangeSearch(const QuantizerOptions& options);

  /// The range of one group of finite weights. `importance`, if given, multiplies each weight's distance.
  /// All-zero groups and groups too small for the scale's dtype get the smallest scale there is. Zero points
  /// are 1 .. max_code, which every format with zero points can store.
  /// Throws Error{unsupported} if the weights ask for a scale past the dtype's largest.
  GroupRange operator()(std::span<const float> weights, std::span<const float> importance = {}) const;

 private:
  GroupRange best_of(std::span<const float> weights, std::span<const float> importance, float unit,
                     float largest, float first_zero, float last_zero, GroupRange best) const;

  Scheme scheme_;
  std::vector<float> factors_;
};

/// A matrix of this shape whose groups have their ranges, each found on its own; codes are not set.
/// `importance` (K), if not empty, multiplies each input's distances.
QuantizedMatrix find_ranges(ConstMatrixRef weight, const QuantizerOptions& options,
                            const Eigen::VectorXf& importance = {});

}  // namespace mpk
