#pragma once
// GPTQ, corrected targets and coordinate descent on the GPU: what gptq.cpp, target.cpp and descent.cpp do,
// for linears whose inputs' statistics and weights are in GPU memory. The same calls give the same bits every
// time; the CPU's differ in the order of sums.

#include <cstdint>
#include <memory>

#include "gpu/blas.hpp"
#include "quantizer/methods.hpp"

namespace mpk {

/// Sums over the calibration tokens in GPU memory, column-major float32 (target.hpp has the formulas).
struct GpuStatistics {
  float* hessian = nullptr;         ///< (K, K): X X^T; the lower triangle is read, the rest overwritten
  const float* shift = nullptr;     ///< (K, K): X (X_f - X)^T; nullptr: the float model is not followed
  const float* residual = nullptr;  ///< (N, K): (R_f - R) X^T; nullptr: the output is added to nothing
};

struct GpuSolved {
  QuantizedLinear linear;
  double weight_error = 0;  ///< |W - W_hat| / |W|
};

class GpuQuantizer {
 public:
  /// Works on blas' stream; `blas` must outlive this object. Throws Error{device} without cuSOLVER.
  explicit GpuQuantizer(const Blas& blas);
  ~GpuQuantizer();

  /// Takes up the inputs that the next linears share. `seen` must live until the last of them. Of `options`
  /// act_order, ranges and damp count here. Throws what damped_factor throws.
  void begin(K k, const GpuStatistics& seen, const QuantizerOptions& options);

  /// Solves one of them and waits for the result. `weight` (N, K) row-major of `type`, overwritten by what
  /// its codes decode to. `correction`: strength of corrected_target. Throws Error{unsupported} for what
  /// gptq() refuses, and for groups of more than 128 inputs that are chosen on the way.
  GpuSolved solve(void* weight, GpuFloat type, N n, const QuantizerOptions& options, double correction);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mpk
