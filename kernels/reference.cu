#include <cuda_bf16.h>
#include <cuda_fp16.h>

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

template <class T>
__global__ void reference_kernel(const float* weights, const T* activations, std::int64_t k_size,
                                 std::int64_t n_size, std::int64_t m_size, double* product,
                                 double* magnitude) {
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
  product[output] = sum;
  magnitude[output] = sum_of_magnitudes;
}

}  // namespace

void reference(const float* weights, K k, N n, const std::uint16_t* activations, Float type, M m,
               double* product, double* magnitude, GpuStream stream) {
  constexpr std::int64_t kThreads = 64;  // few: small products should still reach all multiprocessors
  const auto blocks = static_cast<unsigned>((m.value * n.value + kThreads - 1) / kThreads);
  if (type == Float::f16)
    reference_kernel<<<blocks, kThreads, 0, stream>>>(weights, reinterpret_cast<const __half*>(activations),
                                                      k.value, n.value, m.value, product, magnitude);
  else
    reference_kernel<<<blocks, kThreads, 0, stream>>>(weights,
                                                      reinterpret_cast<const __nv_bfloat16*>(activations),
                                                      k.value, n.value, m.value, product, magnitude);
  MPK_CUDA(cudaGetLastError());
}

}  // namespace mpk
