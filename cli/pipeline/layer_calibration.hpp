#pragma once
// What each linear of a decoder layer reads when the calibration tokens come by, summed to what a quantizer
// asks for.

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "cli/pipeline/layer_stream.hpp"
#include "model/decoder.hpp"
#include "quantizer/target.hpp"

namespace mpk {

struct CalibrationSeconds {
  double forward = 0, hessian = 0;
};

/// Sums over the calibration tokens, of the input x of one group of linears.
struct InputStatistics {
  MatrixF hessian;   ///< (K, K): x x^T
  InputError error;  ///< empty if the float model is not followed; the residual is that of o and down only
};

using GroupStatistics = std::array<InputStatistics, kLinearGroups.size()>;  ///< one of each LinearGroup

/// The calibration tokens' state before some layer, (hidden, M) each.
struct Activations {
  MatrixF x;        ///< in the model quantized so far
  MatrixF float_x;  ///< in the float model; empty: it is not followed
};

class LayerCalibration {
 public:
  /// Replaces a linear's weight by its quantized one.
  using Quantize = std::function<void(Linear& linear, const InputStatistics& seen)>;

  /// `wanted(module)`: whether it will be quantized; inputs of no wanted linear are not summed. `length`:
  /// tokens per window. References must outlive this object.
  LayerCalibration(const DecoderConfig& config, std::int64_t length,
                   std::function<bool(const std::string&)> wanted, CalibrationSeconds& seconds)
      : config_{config}, length_{length}, wanted_{std::move(wanted)}, seconds_{seconds} {}

  /// Statistics of all groups from one pass through the layer as it is; the activations stay before it.
  GroupStatistics observe(DecoderLayer& layer, Activations& activations);

  /// Statistics of all groups from one pass through the layer as it is, then `quantize` for every wanted
  /// linear. The activations go through the layer: x through what `quantize` made of it, float_x through what
  /// it was. (After the last layer nobody reads them; they may be left where they are.)
  void at_once(DecoderLayer& layer, Activations& activations, const Quantize& quantize);

  /// "True sequential": the same group by group, so that o is calibrated on the quantized q, k and v, and so
  /// on.
  void by_groups(DecoderLayer& layer, Activations& activations, const Quantize& quantize);

 private:
  struct Streams;
  GroupStatistics pass(DecoderLayer& layer, Activations& activations, bool moves_float);
  template <class Work>
  void for_each_chunk(const MatrixF& x, Work work) const;
  bool any_wanted(DecoderLayer& layer, LinearGroup group) const;
  void see(LinearGroup group, bool wanted, Streams& streams, Eigen::Index begin, Eigen::Index count,
           InputStatistics& seen);
  void quantize_wanted(DecoderLayer& layer, LinearGroup group, const InputStatistics& seen,
                       const Quantize& quantize) const;
  bool is_last(const DecoderLayer& layer) const { return layer.index + 1 == config_.num_layers; }

  const DecoderConfig& config_;
  std::int64_t length_;
  std::function<bool(const std::string&)> wanted_;
  CalibrationSeconds& seconds_;
};

}  // namespace mpk
