#pragma once
// Which scale a group gets. A scale is p * max|w| / ((2^bits - 1) / 2), rounded to what can be stored; the
// rule is a list of candidates p and a distance that decides between them. This is the one place where scales
// are searched.

#include <span>
#include <vector>

#include "quantizer/methods.hpp"

namespace mpk {

class ScaleSearch {
 public:
  explicit ScaleSearch(const QuantizerOptions& options);

  /// The scale of one group of finite weights. `importance`, if given, multiplies each weight's distance.
  /// All-zero groups and groups too small for the scale's dtype get the smallest scale there is.
  /// Throws Error{unsupported} if max|w| asks for a scale past the dtype's largest.
  float operator()(std::span<const float> weights, std::span<const float> importance = {}) const;

 private:
  ScalarType type_;
  DType dtype_;
  std::vector<float> factors_;  // p, the safest first; negative: the scale is
};

/// Scales of a whole weight (K, N), each group on its own: (groups, N).
MatrixF find_scales(ConstMatrixRef weight, const QuantizerOptions& options);

/// |error|^2.4 to within a few ulp, in multiplications only so that it vectorises; for tests and for the
/// search.
float distance(float error);

}  // namespace mpk
