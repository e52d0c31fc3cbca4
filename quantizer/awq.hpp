#pragma once
// Activation-aware scales (AWQ): inputs that carry much are rounded finely.
//
// Multiplying input k of a layer's weight by s_k and dividing what produces that input by s_k changes
// nothing, but the rounding: a group's scale is shared, so a row that is larger within it is rounded more
// finely. The candidates are
//
//   s_k = rms_k^alpha / w_k^(1 - alpha)   or   rms_k^alpha,   alpha = 0, 1/20, .., 19/20
//
// with rms_k the root mean square of input k over the calibration tokens, the root of the Hessian's diagonal,
// and w_k the mean of |weight| in row k in units of its group's largest; all brought to sqrt(max s * min s) =
// 1. The one that loses the least output energy after rounding wins.

#include <span>
#include <vector>

#include "quantizer/methods.hpp"

namespace mpk {

struct AwqLayer {
  const MatrixF* weight;  ///< (K, N)
  Scheme scheme;
};

/// Scales for layers that read the same inputs, with the Hessian of those, (K, K). channel_of[k] is what
/// produces input k (an output of the layer before); inputs of one channel get one scale. Returns one scale
/// per channel; all 1 if no candidate is better than that. `options` tells how a trial is rounded.
Eigen::VectorXf awq_scales(std::span<const AwqLayer> layers, const MatrixF& hessian,
                           std::span<const Eigen::Index> channel_of, const QuantizerOptions& options);

}  // namespace mpk
