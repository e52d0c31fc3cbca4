// gpu.hpp with CUDA: host memory to the device, one call, and back.

#include "kernels/gpu.hpp"

#include <cuda_runtime_api.h>

#include "kernels/dequantize.hpp"
#include "kernels/gemm.hpp"
#include "kernels/reference.hpp"
#include "kernels/runtime/device_buffer.hpp"
#include "kernels/runtime/stream.hpp"

namespace mpk {
namespace {

constexpr int kMinCapability = 80;  // cp.async, mma.m16n8k16

/// Never throws: a machine without GPU or driver is a normal place to be.
GpuStatus find_gpu() {
  GpuStatus gpu;
  const auto unusable = [&](std::string why) {
    (void)cudaGetLastError();
    gpu.reason = std::move(why);
    return gpu;
  };
  int driver = 0, count = 0, device = 0, major = 0, minor = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) return unusable("no NVIDIA driver");
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess)
    return unusable(cudaGetErrorString(status));
  if (count == 0) return unusable("no CUDA device");
  cudaDeviceProp properties{};
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) status = cudaGetDeviceProperties(&properties, device);
  if (status == cudaSuccess)
    status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (status == cudaSuccess)
    status = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (status != cudaSuccess) return unusable(cudaGetErrorString(status));
  gpu.name = properties.name;
  gpu.capability = 10 * major + minor;
  if (gpu.capability < kMinCapability)
    return unusable(gpu.name + " has compute capability " + std::to_string(major) + "." +
                    std::to_string(minor) + ", the kernels need 8.0");
  if (const std::string missing = gemm_code_missing(); !missing.empty())
    return unusable(gpu.name + ": " + missing);
  gpu.usable = true;
  return gpu;
}

void require_gpu() {
  if (!gpu_status().usable) throw Error{ErrorKind::device, "no GPU: " + gpu_status().reason};
}

void require_size(const char* what, std::size_t actual, std::size_t expected) {
  if (actual != expected)
    throw Error{ErrorKind::bad_input, std::string{what} + ": " + std::to_string(actual) + " elements where " +
                                          std::to_string(expected) + " belong"};
}

std::size_t area(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
}

int num_sms() {
  int device = 0, sms = 0;
  MPK_CUDA(cudaGetDevice(&device));
  MPK_CUDA(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device));
  return sms;
}

constexpr int kPoison = 0xff;  // two such bytes are a NaN

}  // namespace

const GpuStatus& gpu_status() {
  static const GpuStatus status = find_gpu();
  return status;
}

struct GpuLinear::Impl {
  LayerShape layer;
  Stream stream;
  int sms;
  DeviceBuffer<std::uint32_t> words;
  DeviceBuffer<std::uint16_t> scales;

  Impl(const LayerShape& shape, std::span<const std::uint32_t> host_words,
       std::span<const std::uint16_t> host_scales)
      : layer{shape}, sms{num_sms()}, words{host_words, stream}, scales{host_scales, stream} {}
};

GpuLinear::GpuLinear(ScalarType type, std::optional<GroupSize> group_size, K k, N n,
                     std::span<const std::uint32_t> words, std::span<const std::uint16_t> scales) {
  const LayerShape layer{type, group_size, k, n};
  require_gemm(layer);
  require_size("packed weights", words.size(), layer.num_words());
  require_size("scales", scales.size(), layer.num_scales());
  require_gpu();
  impl_ = std::make_unique<Impl>(layer, words, scales);
}
GpuLinear::~GpuLinear() = default;
GpuLinear::GpuLinear(GpuLinear&&) noexcept = default;
GpuLinear& GpuLinear::operator=(GpuLinear&&) noexcept = default;

std::vector<std::uint16_t> GpuLinear::multiply(std::span<const std::uint16_t> activations, M m) const {
  const LayerShape& layer = impl_->layer;
  const Stream& stream = impl_->stream;
  require_size("activations", activations.size(), area(m.value, layer.k.value));
  const GemmPlan plan = plan_gemm(layer, m, impl_->sms);
  const DeviceBuffer<std::uint16_t> a{activations, stream};
  DeviceBuffer<std::uint16_t> out{area(m.value, layer.n.value)};
  DeviceBuffer<std::byte> workspace{plan.workspace_bytes};
  out.fill_bytes(kPoison, stream);
  workspace.fill_bytes(kPoison, stream);
  MPK_CUDA(cudaMemsetAsync(workspace.data(), 0, plan.counter_bytes, stream.get()));
  gemm(plan, {a.data(), impl_->words.data(), impl_->scales.data(), out.data(), workspace.data()},
       stream.get());
  return out.to_host(stream);
}

std::vector<std::uint16_t> GpuLinear::dequantize() const {
  const LayerShape& layer = impl_->layer;
  DeviceBuffer<std::uint16_t> out{area(layer.k.value, layer.n.value)};
  out.fill_bytes(kPoison, impl_->stream);
  mpk::dequantize(layer, impl_->words.data(), impl_->scales.data(), out.data(), impl_->stream.get());
  return out.to_host(impl_->stream);
}

GpuReference gpu_reference(std::span<const float> weights, K k, N n,
                           std::span<const std::uint16_t> activations, M m) {
  require_size("weights", weights.size(), area(k.value, n.value));
  require_size("activations", activations.size(), area(m.value, k.value));
  require_gpu();
  const Stream stream;
  const DeviceBuffer<float> w{weights, stream};
  const DeviceBuffer<std::uint16_t> a{activations, stream};
  DeviceBuffer<double> product{area(m.value, n.value)}, magnitude{area(m.value, n.value)};
  product.fill_bytes(kPoison, stream);
  magnitude.fill_bytes(kPoison, stream);
  reference(w.data(), k, n, a.data(), m, product.data(), magnitude.data(), stream.get());
  return {product.to_host(stream), magnitude.to_host(stream)};
}

}  // namespace mpk
