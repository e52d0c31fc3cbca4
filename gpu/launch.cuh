#pragma once
// What every launch needs: grids, and matrices whose element type is known at run time.

#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "gpu/blas.hpp"
#include "gpu/check.hpp"

namespace mpk::gpu_steps {

inline unsigned blocks_for(std::int64_t count, int per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}
inline void check_launch(const char* what) {
  check_cuda(cudaGetLastError(), what);
}

__device__ __forceinline__ float load_float(const float* p) {
  return *p;
}
__device__ __forceinline__ float load_float(const __half* p) {
  return __half2float(*p);
}
__device__ __forceinline__ float load_float(const __nv_bfloat16* p) {
  return __bfloat162float(*p);
}
__device__ __forceinline__ void store_float(float* p, float value) {
  *p = value;
}
__device__ __forceinline__ void store_float(__half* p, float value) {
  *p = __float2half_rn(value);
}
__device__ __forceinline__ void store_float(__nv_bfloat16* p, float value) {
  *p = __float2bfloat16_rn(value);
}

/// f(typed pointer), for a matrix whose type is known at run time.
template <class F>
void with_type(GpuFloat type, void* data, F&& f) {
  switch (type) {
    case GpuFloat::f16:
      return f(static_cast<__half*>(data));
    case GpuFloat::bf16:
      return f(static_cast<__nv_bfloat16*>(data));
    case GpuFloat::f32:
      return f(static_cast<float*>(data));
  }
}
template <class F>
void with_type(GpuFloat type, const void* data, F&& f) {
  with_type(type, const_cast<void*>(data),
            [&](auto* p) { f(static_cast<const std::remove_pointer_t<decltype(p)>*>(p)); });
}

}  // namespace mpk::gpu_steps
