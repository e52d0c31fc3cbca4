#pragma once
// Rotary position embedding, in the convention of transformers: element i of a head turns with element i +
// head_dim/2.

#include <cstdint>

#include "model/config.hpp"
#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// cos and sin of every angle of a window.
class RopeTable {
 public:
  RopeTable(const RopeConfig& config, std::int64_t head_dim, std::int64_t length);

  /// Turns one head (head_dim elements) at `position` of its window.
  void rotate(float* head, std::int64_t position) const;

 private:
  MatrixF cos_, sin_;  ///< (head_dim / 2, length)
};

/// Angle per position, (head_dim / 2), in float32 as the models were trained with.
Eigen::VectorXf inverse_frequencies(const RopeConfig& config, std::int64_t head_dim);

}  // namespace mpk
