// gpu.hpp with CUDA: host memory to the device, one call, and back.

#include "kernels/gpu.hpp"

#include <cuda_runtime_api.h>

#include "gpu/device_buffer.hpp"
#include "gpu/stream.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/gemm.hpp"
#include "kernels/reference.hpp"

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

constexpr int kPoison = 0xff;  // two such bytes are a NaN

}  // namespace

const GpuStatus& gpu_status() {
  static const GpuStatus status = find_gpu();
  return status;
}

struct GpuLinear::Impl {
  LayerShape layer;
  Stream stream;
  GpuTraits gpu = current_gpu_traits();
  DeviceBuffer<std::uint32_t> words;
  DeviceBuffer<std::byte> scales;
  DeviceBuffer<std::uint32_t> zero_points;
  DeviceBuffer<std::int32_t> perm;
  DeviceBuffer<std::uint16_t> bias;
  float global_scale;

  Impl(const LayerShape& shape, const LayerTensors& host)
      : layer{shape},
        words{host.words, stream},
        scales{host.scales, stream},
        zero_points{host.zero_points, stream},
        perm{host.perm, stream},
        bias{host.bias, stream},
        global_scale{host.global_scale} {}
};

GpuLinear::GpuLinear(const LayerShape& layer, const LayerTensors& tensors) {
  require_gemm(layer);
  require_size("packed weights", tensors.words.size(), layer.num_words());
  require_size("bytes of scales", tensors.scales.size(),
               layer.num_scales() * static_cast<std::size_t>(scale_bytes(layer.weight)));
  require_size("words of zero points", tensors.zero_points.size(), layer.num_zero_words());
  require_size("perm", tensors.perm.size(), layer.act_order ? static_cast<std::size_t>(layer.k.value) : 0);
  if (!tensors.bias.empty())
    require_size("bias", tensors.bias.size(), static_cast<std::size_t>(layer.n.value));
  require_gpu();
  impl_ = std::make_unique<Impl>(layer, tensors);
}
GpuLinear::~GpuLinear() = default;
GpuLinear::GpuLinear(GpuLinear&&) noexcept = default;
GpuLinear& GpuLinear::operator=(GpuLinear&&) noexcept = default;

std::vector<std::uint16_t> GpuLinear::multiply(std::span<const std::uint16_t> activations, M m,
                                               std::optional<GemmFamily> family) const {
  const LayerShape& layer = impl_->layer;
  const Stream& stream = impl_->stream;
  require_size("activations", activations.size(), area(m.value, layer.k.value));
  const GemmPlan plan = plan_gemm(layer, m, impl_->gpu, family);
  const DeviceBuffer<std::uint16_t> a{activations, stream};
  DeviceBuffer<std::uint16_t> out{area(m.value, layer.n.value)};
  DeviceBuffer<std::byte> workspace{plan.workspace_bytes};
  out.fill_bytes(kPoison, stream);
  workspace.fill_bytes(kPoison, stream);
  MPK_CUDA(cudaMemsetAsync(workspace.data(), 0, plan.counter_bytes, stream.get()));
  gemm(plan,
       {.activations = a.data(),
        .words = impl_->words.data(),
        .scales = impl_->scales.data(),
        .zero_points = impl_->zero_points.data(),
        .perm = impl_->perm.data(),
        .bias = impl_->bias.data(),
        .global_scale = impl_->global_scale,
        .out = out.data(),
        .workspace = workspace.data()},
       stream.get());
  return out.to_host(stream);
}

std::vector<std::uint16_t> GpuLinear::dequantize() const {
  const LayerShape& layer = impl_->layer;
  DeviceBuffer<std::uint16_t> out{area(layer.k.value, layer.n.value)};
  out.fill_bytes(kPoison, impl_->stream);
  mpk::dequantize(layer,
                  {.words = impl_->words.data(),
                   .scales = impl_->scales.data(),
                   .zero_points = impl_->zero_points.data(),
                   .global_scale = impl_->global_scale},
                  out.data(), impl_->stream.get());
  return out.to_host(impl_->stream);
}

GpuReference gpu_reference(std::span<const float> weights, K k, N n,
                           std::span<const std::uint16_t> activations, M m, Float type) {
  require_size("weights", weights.size(), area(k.value, n.value));
  require_size("activations", activations.size(), area(m.value, k.value));
  require_gpu();
  const Stream stream;
  const DeviceBuffer<float> w{weights, stream};
  const DeviceBuffer<std::uint16_t> a{activations, stream};
  DeviceBuffer<double> product{area(m.value, n.value)}, magnitude{area(m.value, n.value)};
  product.fill_bytes(kPoison, stream);
  magnitude.fill_bytes(kPoison, stream);
  reference(w.data(), k, n, a.data(), type, m, product.data(), magnitude.data(), stream.get());
  return {product.to_host(stream), magnitude.to_host(stream)};
}

}  // namespace mpk
