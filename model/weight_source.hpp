#pragma once
// Where a decoder gets its numbers from: a float checkpoint, or a packed one that is decoded on the way.

#include <string>

#include "packer/format/quantized_matrix.hpp"

namespace mpk {

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual bool contains(const std::string& name) const = 0;
  /// A tensor by its checkpoint name, as float32. A matrix stored row-major (N, K) comes as (K, N); a vector
  /// of n elements as (n, 1). Throws Error{bad_input} if it is missing, Error{unsupported} if it is no float
  /// tensor.
  virtual MatrixF load(const std::string& name) const = 0;
};

}  // namespace mpk
