#pragma once
// What each linear of a decoder layer reads when the calibration tokens come by, summed to what a quantizer
// asks for.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

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
  InputError error;  ///< empty if the float model is not followed; the residual only of groups that add to it
  std::int64_t tokens = 0;  ///< that were summed
  /// Of an expert: how many tokens were routed to it. If they were fewer than the inputs of its linears, they
  /// leave directions unseen, and it was shown all tokens, as if they had been routed to it.
  std::optional<std::int64_t> routed_tokens = {};
};

using GroupStatistics = std::vector<InputStatistics>;  ///< one of each element of linear_groups()

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

  /// The same, and x goes through the layer as it is (not the last: nobody reads it after that).
  GroupStatistics pass_through(DecoderLayer& layer, Activations& activations);

  /// Statistics of all groups from one pass through the layer as it is, then `quantize` for every wanted
  /// linear. The activations go through the layer: x through what `quantize` made of it, float_x through what
  /// it was. (After the last layer nobody reads them; they may be left where they are.)
  void at_once(DecoderLayer& layer, Activations& activations, const Quantize& quantize);

  /// "True sequential": the same group by group, so that o is calibrated on the quantized q, k and v, and so
  /// on. Holds the statistics of one group at a time, where the other two hold those of all.
  void by_groups(DecoderLayer& layer, Activations& activations, const Quantize& quantize);

 private:
  struct Streams;
  GroupStatistics pass(DecoderLayer& layer, Activations& activations, bool moves_own, bool moves_float);
  void finish_pass(LayerStream& stream, const DecoderLayer& layer, const MatrixF& state, Eigen::Index first,
                   Eigen::Index count, MatrixF& x);
  Eigen::Index chunk() const { return windows_per_chunk(config_, length_) * length_; }
  template <class Work>
  void for_each_chunk(Eigen::Index columns, Work work) const;
  bool any_wanted(const LinearGroup& group) const;
  void see(const LinearGroup& group, Streams& streams, Eigen::Index begin, Eigen::Index count,
           InputStatistics& seen);
  void see_routed(const LinearGroup& group, Streams& streams, Eigen::Index columns, InputStatistics& seen);
  template <class After>
  void visit(const LinearGroup& group, Streams& streams, Eigen::Index columns, InputStatistics& seen,
             After after);
  void end_attention(const DecoderLayer& layer, Streams& streams, Eigen::Index columns);
  void add(const MatrixF& x, const MatrixF* float_x, InputStatistics& seen);
  void quantize_wanted(const LinearGroup& group, const InputStatistics& seen, const Quantize& quantize) const;
  bool is_last(const DecoderLayer& layer) const { return layer.index + 1 == config_.num_layers; }

  const DecoderConfig& config_;
  std::int64_t length_;
  std::function<bool(const std::string&)> wanted_;
  CalibrationSeconds& seconds_;
};

}  // namespace mpk
