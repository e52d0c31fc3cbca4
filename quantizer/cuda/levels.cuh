#pragma once
// The arithmetic that CPU and GPU solvers share.

#include "gpu/launch.cuh"
#include "quantizer/cuda/steps.hpp"

namespace mpk::gpu_steps {

/// As rounding.hpp's Levels::nearest.
__device__ __forceinline__ float nearest_level(float value, float lowest, float highest) {
  return rintf(fmaxf(lowest, fminf(highest, value)));
}

/// As rounding.hpp's representable_scale.
__device__ __forceinline__ float representable(float scale, const CodeSpace& space) {
  const float rounded =
      space.f16_scales ? __half2float(__float2half_rn(scale)) : __bfloat162float(__float2bfloat16_rn(scale));
  return copysignf(fmaxf(fabsf(rounded), space.smallest), scale);
}

}  // namespace mpk::gpu_steps
