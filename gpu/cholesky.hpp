#pragma once
// Cholesky factors on the GPU: cuSOLVER, found at run time.

#include <cstdint>
#include <memory>

#include "gpu/device_buffer.hpp"

namespace mpk {

class GpuCholesky {
 public:
  /// All work goes to `stream`, which must outlive this object. Throws Error{device} without a usable
  /// cuSOLVER.
  explicit GpuCholesky(const Stream& stream);
  ~GpuCholesky();
  GpuCholesky(const GpuCholesky&) = delete;
  GpuCholesky& operator=(const GpuCholesky&) = delete;

  /// Reads the lower triangle of a (n, n), column-major float32, and overwrites it by L with a = L L^T; what
  /// is above the diagonal stays. Waits for the result: false if a is not positive definite to working
  /// precision (a is then unspecified).
  [[nodiscard]] bool factor(std::int64_t n, float* a) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mpk
