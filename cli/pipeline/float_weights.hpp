#pragma once
// A decoder's weights straight from a floating-point checkpoint.

#include "model/weight_source.hpp"
#include "packer/io/checkpoint.hpp"

namespace mpk {

/// BF16, F16, F32 or F64 as float32: a row-major (N, K) matrix as (K, N), a vector as (n, 1). Throws Error{unsupported} for other
/// element types and ranks.
MatrixF float_matrix(const TensorView& tensor);

class FloatWeights final : public WeightSource {
 public:
  /// `checkpoint` is shared, not copied: a Checkpoint is a handle.
  explicit FloatWeights(Checkpoint checkpoint) : checkpoint_{std::move(checkpoint)} {}
  bool contains(const std::string& name) const override { return checkpoint_.contains(name); }
  MatrixF load(const std::string& name) const override;

 private:
  Checkpoint checkpoint_;
};

}  // namespace mpk
