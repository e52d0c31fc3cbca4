#pragma once
// What the linears of the float model read: from a run of it, or from a file that calibrate wrote.

#include <functional>
#include <span>
#include <string>

#include "cli/pipeline/layer_calibration.hpp"
#include "cli/pipeline/open_model.hpp"

namespace mpk {

class StatisticsSource {
 public:
  virtual ~StatisticsSource() = default;
  /// One element per group of linear_groups(), for layers 0, 1, .. in order. `layer` is the float model's.
  virtual GroupStatistics of(DecoderLayer& layer) = 0;
  /// The layer's turn passes without.
  virtual void skip(DecoderLayer& layer) = 0;
  /// skip() does something.
  virtual bool has_state() const = 0;
};

/// Runs the calibration tokens through the float model, layer by layer.
class FloatModelStatistics final : public StatisticsSource {
 public:
  /// `wanted(module)` as in LayerCalibration. References must outlive this object.
  FloatModelStatistics(const OpenModel& model, std::span<const std::int32_t> windows, std::int64_t length,
                       std::function<bool(const std::string&)> wanted, CalibrationSeconds& seconds);
  GroupStatistics of(DecoderLayer& layer) override;
  void skip(DecoderLayer& layer) override;
  bool has_state() const override { return true; }

 private:
  const DecoderConfig& config_;
  std::int64_t length_;
  CalibrationSeconds& seconds_;
  LayerCalibration calibration_;
  Activations activations_;
};

}  // namespace mpk
