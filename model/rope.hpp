#pragma once
// Rotary position embedding, in the convention of transformers: element i of a head turns with element i +
// dim/2, where dim is head_dim or, in a partly rotated head, the number of its first elements that turn.

#include <cstdint>

#include "model/config.hpp"
#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// cos and sin of every angle of a window.
class RopeTable {
 public:
  RopeTable(const RopeConfig& config, std::int64_t dim, std::int64_t length);

  /// Turns the first dim elements of one head at `position` of its window.
  void rotate(float* head, std::int64_t position) const;
  /// The same where element 2 i turns with element 2 i + 1.
  void rotate_neighbours(float* head, std::int64_t position) const;

  const MatrixF& cos() const { return cos_; }  ///< (head_dim / 2, length)
  const MatrixF& sin() const { return sin_; }

 private:
  MatrixF cos_, sin_;  ///< (dim / 2, length)
};

/// Angle per position, (dim / 2), in float32 as the models were trained with. `length` of a window decides
/// between the factors of longrope; 0 is short.
Eigen::VectorXf inverse_frequencies(const RopeConfig& config, std::int64_t dim, std::int64_t length = 0);

}  // namespace mpk
