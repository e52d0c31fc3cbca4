#include "cli/pipeline/device.hpp"

#include <fmt/format.h>

#include "kernels/gpu.hpp"
#include "packer/format/error.hpp"

namespace mpk {

Device device_named(const std::string& name) {
  if (name == "auto") return Device::automatic;
  if (name == "cpu") return Device::cpu;
  if (name == "cuda") return Device::cuda;
  throw Error{ErrorKind::usage, fmt::format("--device {}: auto, cpu or cuda", name)};
}

bool decide_gpu(Device device) {
  if (device == Device::cuda && !gpu_status().usable)
    throw Error{ErrorKind::device, fmt::format("--device cuda: {}", gpu_status().reason)};
  return device != Device::cpu && gpu_status().usable;
}

GpuCompute gpu_compute_named(const std::string& name) {
  for (const GpuCompute compute : {GpuCompute::bfloat16, GpuCompute::float16, GpuCompute::float32})
    if (name == name_of(compute)) return compute;
  throw Error{ErrorKind::usage, fmt::format("--gpu-compute {}: bfloat16, float16 or float32", name)};
}

}  // namespace mpk
