#include "packer/block_scales.hpp"

#include <limits>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk {

float lift_block_scales(QuantizedMatrix& q) {
  float smallest = std::numeric_limits<float>::infinity(), largest = 0;
  for (const float scale : q.scales.reshaped()) {
    if (scale > 0 && scale < smallest) smallest = scale;
    if (scale > largest) largest = scale;
  }
  float factor = 1;
  while (smallest * factor < kSmallestScaleBf16) factor *= 2;
  if (factor == 1) return 1;
  constexpr float kLargest = 448;
  if (largest * factor > kLargest)
    throw Error{
        ErrorKind::unsupported,
        fmt::format("block scales from {} to {}: times {}, which the smallest one needs in a kernel with "
                    "BF16 activations, the largest passes {}; F16 activations take them as they are",
                    smallest, largest, factor, kLargest)};
  q.scales *= factor;
  q.global_scale =
      q.scheme.global_scale == GlobalScale::divides ? q.global_scale * factor : q.global_scale / factor;
  return factor;
}

}  // namespace mpk
