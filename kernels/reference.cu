#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "gpu/check.hpp"
#include "kernels/reference.hpp"

namespace mpk {
namespace {

__device__ float to_float(__half x) {
  return __half2float(x);
}
__device__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ float to_float(std::int8_t x) {
  return static_cast<float>(x);
}
__device__ float to_float(__nv_fp8_e4m3 x) {
  return static_cast<float>(x);
}

template <class T>
__global__ void reference_kernel(const float* weights, const T* activations, std::int64_t k_size,
                                 std::int64_t n_size, const float* row_scales, std::int64_t m_size,
                                 double* product, double* magnitude) {
  const std::int64_t output = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (output >= m_size * n_size) return;
  const T* row = activations + output / n_size * k_size;
  const float* column = weights + output % n_size * k_size;
  double sum = 0, sum_of_magnitudes = 0;
  for (std::int64_t k = 0; k < k_size; ++k) {
    const double term = static_cast<double>(to_float(row[k])) * static_cast<double>(column[k]);
    sum += term;
    sum_of_magnitudes += fabs(term);
  }
  const double scale = row_scales ? static_cast<double>(row_scales[output / n_size]) : 1.0;
  product[output] = sum * scale;
  magnitude[output] = sum_of_magnitudes * fabs(scale);
}

template <class T>
void launch(const float* weights, K k, N n, const void* activations, const float* row_scales, M m,
            double* product, double* magnitude, GpuStream stream) {
  constexpr std::int64_t kThreads = 64;  // few: small products should still reach all multiprocessors
  const auto blocks = static_cast<unsigned>((m.value * n.value + kThreads - 1) / kThreads);
  reference_kernel<<<blocks, kThreads, 0, stream>>>(weights, static_cast<const T*>(activations), k.value,
                                                    n.value, row_scales, m.value, product, magnitude);
  MPK_CUDA(cudaGetLastError());
}

}  // namespace

void reference(const float* weights, K k, N n, const std::uint16_t* activations, Float type, M m,
               double* product, double* magnitude, GpuStream stream) {
  const auto run = type == Float::f16 ? launch<__half> : launch<__nv_bfloat16>;
  run(weights, k, n, activations, nullptr, m, product, magnitude, stream);
}
void reference(const float* weights, K k, N n, const std::byte* activations, Activation8 type,
               const float* row_scales, M m, double* product, double* magnitude, GpuStream stream) {
  const auto run = type == Activation8::int8 ? launch<std::int8_t> : launch<__nv_fp8_e4m3>;
  run(weights, k, n, activations, row_scales, m, product, magnitude, stream);
}

}  // namespace mpk
