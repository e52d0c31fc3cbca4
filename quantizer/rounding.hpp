#pragma once
// From a real number to a code and back, and from a real scale to one that can be stored.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "packer/format/float16.hpp"
#include "packer/format/quantized_matrix.hpp"

namespace mpk {

/// The signed integers a group's codes can stand for: -zero .. max_code - zero, kept as float since they are
/// only multiplied.
struct Levels {
  float lowest, highest;
  constexpr Levels(ScalarType type, float zero)
      : lowest{-zero}, highest{static_cast<float>(type.max_code()) - zero} {}

  float nearest(float value) const { return nearest(value, lowest, highest); }
  std::uint8_t code(float level) const { return code(level, lowest); }

  /// Nearest level, half to even. Clamping first keeps the result exact and in range for every input, NaN
  /// included.
  static float nearest(float value, float lowest, float highest) {
    return std::nearbyint(std::max(lowest, std::min(highest, value)));
  }
  static std::uint8_t code(float level, float lowest) {
    return static_cast<std::uint8_t>(static_cast<int>(level - lowest));
  }
};

/// What is subtracted from the codes of a group, in code space.
inline float zero_of(const QuantizedMatrix& q, Eigen::Index group, Eigen::Index n) {
  return static_cast<float>(q.scheme.zero_points == ZeroPoints::integer ? q.zero_points(group, n)
                                                                        : q.scheme.type.bias);
}

/// The smallest scale we write. F16 subnormals are numbers like any other to a GPU; float32 ones, which BF16
/// shares, may be flushed to zero.
constexpr float smallest_scale(DType dtype) {
  return dtype == DType::F16 ? 0x1p-24f : 0x1p-126f;
}
constexpr float largest_scale(DType dtype) {
  return dtype == DType::F16 ? 65504.0f : 0x1.fep127f;
}

/// `scale` as its dtype holds it: never zero; infinite if it is past largest_scale.
inline float representable_scale(float scale, DType dtype) {
  const float rounded =
      dtype == DType::F16 ? f16_to_float(float_to_f16(scale)) : bf16_to_float(float_to_bf16(scale));
  return std::copysign(std::max(std::abs(rounded), smallest_scale(dtype)), scale);
}

}  // namespace mpk
