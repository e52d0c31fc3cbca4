#pragma once
// What an engine does in a second, measured in a moment, for estimates.

#include <memory>

#include "cli/pipeline/quantize_job.hpp"

namespace mpk {

class EngineRates {
 public:
  virtual ~EngineRates() = default;
  virtual double product() const = 0;  ///< floating-point operations of the forward pass
  virtual double gram() const = 0;     ///< and of Hessians, of which one triangle counts
  /// Seconds of the job's method for a (k, n) layer.
  virtual double solve(double k, double n) const = 0;
};

/// Throws Error{device} without a GPU. `job` must outlive it.
std::unique_ptr<EngineRates> make_gpu_rates(const QuantizeJob& job, GpuCompute compute);

}  // namespace mpk
