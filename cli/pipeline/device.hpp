#pragma once
// Where work runs.

#include <string>

namespace mpk {

enum class Device { automatic, cpu, cuda };
/// "auto", "cpu", "cuda". Throws Error{usage} for anything else.
Device device_named(const std::string& name);
/// Whether products run on the GPU. Throws Error{device} if one was demanded and there is none.
bool decide_gpu(Device device);

/// What the GPU multiplies; it always adds up in float32.
enum class GpuCompute { bfloat16, float16, float32 };
constexpr const char* name_of(GpuCompute compute) {
  return compute == GpuCompute::bfloat16  ? "bfloat16"
         : compute == GpuCompute::float16 ? "float16"
                                          : "float32";
}

/// Throws Error{usage} for any other name.
GpuCompute gpu_compute_named(const std::string& name);

}  // namespace mpk
