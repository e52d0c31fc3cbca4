#pragma once
// Matrix products and triangular solves on the GPU: cuBLAS, found at run time. Column-major. The same call on
// the same GPU gives the same bits every time.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "gpu/device_buffer.hpp"

namespace mpk {

/// The element types of matrices on the GPU.
enum class GpuFloat { f16, bf16, f32 };
constexpr std::size_t bytes_of(GpuFloat type) {
  return type == GpuFloat::f32 ? 4 : 2;
}

enum class GpuOp { none, transpose };
/// Of float32 factors. `tensor_cores` rounds them to 11 bits first.
enum class Precision { full, tensor_cores };

/// A matrix in GPU memory: column j begins at data + j * ld elements.
struct GpuMatrix {
  void* data;
  GpuFloat type;
  std::int64_t ld;
};
struct ConstGpuMatrix {
  const void* data;
  GpuFloat type;
  std::int64_t ld;
  ConstGpuMatrix(const void* d, GpuFloat t, std::int64_t l) : data{d}, type{t}, ld{l} {}
  ConstGpuMatrix(const GpuMatrix& m) : data{m.data}, type{m.type}, ld{m.ld} {}
};

class Blas {
 public:
  /// All work goes to `stream`, which must outlive this object. Throws Error{device} without a usable cuBLAS.
  explicit Blas(const Stream& stream);
  ~Blas();
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  const Stream& stream() const;
  const std::string& library() const;

  /// c <- alpha op(a) op(b) + beta c with op(a) (m, k), op(b) (k, n). a and b are of one type, c of theirs or
  /// f32; sums are float32.
  void gemm(GpuOp op_a, GpuOp op_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
            ConstGpuMatrix a, ConstGpuMatrix b, float beta, GpuMatrix c,
            Precision precision = Precision::full) const;

  /// b <- b op(l)^-1 for l (n, n) lower triangular and b (m, n), both float32.
  void solve_right(GpuOp op_l, std::int64_t m, std::int64_t n, const float* l, std::int64_t ld_l, float* b,
                   std::int64_t ld_b) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mpk
