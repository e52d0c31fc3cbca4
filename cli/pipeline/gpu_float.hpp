#pragma once
// What --gpu-compute means to the kernels.

#include "cli/pipeline/device.hpp"
#include "gpu/blas.hpp"

namespace mpk {

constexpr GpuFloat gpu_float(GpuCompute compute) {
  return compute == GpuCompute::bfloat16  ? GpuFloat::bf16
         : compute == GpuCompute::float16 ? GpuFloat::f16
                                          : GpuFloat::f32;
}

}  // namespace mpk
