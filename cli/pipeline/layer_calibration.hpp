#pragma once
// The calibration tokens' way through one decoder layer: what each linear reads on the way becomes its
// Hessian.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/decoder.hpp"

namespace mpk {

struct CalibrationSeconds {
  double forward = 0, hessian = 0;
};

/// Hessians sum x x^T of a layer's inputs, by module; linears that share an input share its Hessian.
class LayerHessians {
 public:
  void add(std::initializer_list<const Linear*> linears, ConstMatrixRef x);
  const MatrixF& of(const Linear& linear) const { return *of_module_.at(linear.module); }

 private:
  std::map<std::string, std::shared_ptr<MatrixF>> of_module_;
};

class LayerCalibration {
 public:
  /// Replaces a linear's weight by its quantized one.
  using Quantize = std::function<void(Linear& linear, const MatrixF& hessian)>;

  /// `wanted(module)`: whether it will be quantized; inputs of no wanted linear are not summed. `length`:
  /// tokens per window. References must outlive this object.
  LayerCalibration(const DecoderConfig& config, std::int64_t length,
                   std::function<bool(const std::string&)> wanted, CalibrationSeconds& seconds)
      : config_{config}, length_{length}, wanted_{std::move(wanted)}, seconds_{seconds} {}

  /// All Hessians from one pass through the layer as it is, then `quantize` for every wanted linear, then x
  /// <- layer(x).
  void at_once(DecoderLayer& layer, MatrixF& x, const Quantize& quantize);

  /// "True sequential": o is calibrated on the quantized q, k and v, and so on; x <- layer(x).
  void by_stages(DecoderLayer& layer, MatrixF& x, const Quantize& quantize);

 private:
  template <class Work>
  void for_each_chunk(const MatrixF& x, Work work) const;
  template <class Stage>
  void forward(Stage stage);
  void see(LayerHessians& hessians, std::initializer_list<const Linear*> linears, const MatrixF& input);
  void quantize_wanted(std::initializer_list<Linear*> linears, const LayerHessians& hessians,
                       const Quantize& quantize) const;
  /// After the last layer nobody reads x any more.
  bool is_last(const DecoderLayer& layer) const { return layer.index + 1 == config_.num_layers; }

  const DecoderConfig& config_;
  std::int64_t length_;
  std::function<bool(const std::string&)> wanted_;
  CalibrationSeconds& seconds_;
};

}  // namespace mpk
