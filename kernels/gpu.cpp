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

  /// Device memory; no `row_scales` where activations have 16 bits.
  std::vector<std::uint16_t> multiply(const void* activations, const float* row_scales, M m,
                                      std::optional<GemmFamily> family) const {
    const GemmPlan plan = plan_gemm(layer, m, gpu, family);
    DeviceBuffer<std::uint16_t> out{area(m.value, layer.n.value)};
    DeviceBuffer<std::byte> workspace{plan.workspace_bytes};
    out.fill_bytes(kPoison, stream);
    workspace.fill_bytes(kPoison, stream);
    MPK_CUDA(cudaMemsetAsync(workspace.data(), 0, plan.counter_bytes, stream.get()));
    gemm(plan,
         {.activations = activations,
          .row_scales = row_scales,
          .words = words.data(),
          .scales = scales.data(),
          .zero_points = zero_points.data(),
          .perm = perm.data(),
          .bias = bias.data(),
          .global_scale = global_scale,
          .out = out.data(),
          .workspace = workspace.data()},
         stream.get());
    return out.to_host(stream);
  }
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
  if (impl_->layer.activations8)
    throw Error{ErrorKind::bad_input, "16-bit activations for a layer that takes 8 bits"};
  require_size("activations", activations.size(), area(m.value, impl_->layer.k.value));
  const DeviceBuffer<std::uint16_t> a{activations, impl_->stream};
  return impl_->multiply(a.data(), nullptr, m, family);
}
std::vector<std::uint16_t> GpuLinear::multiply(const QuantizedRows& activations, M m,
                                               std::optional<GemmFamily> family) const {
  if (!impl_->layer.activations8)
    throw Error{ErrorKind::bad_input, "8-bit activations for a layer that takes 16 bits"};
  require_size("activations", activations.values.size(), area(m.value, impl_->layer.k.value));
  require_size("scales of activations", activations.scales.size(), area(m.value, 1));
  const DeviceBuffer<std::byte> a{activations.values, impl_->stream};
  const DeviceBuffer<float> row_scales{activations.scales, impl_->stream};
  return impl_->multiply(a.data(), row_scales.data(), m, family);
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

namespace {

/// `run(weights, product, magnitude)` on device memory of (K, N), (M, N) and (M, N).
template <class Run>
GpuReference run_reference(std::span<const float> weights, K k, N n, M m, const Stream& stream, Run run) {
  require_size("weights", weights.size(), area(k.value, n.value));
  const DeviceBuffer<float> w{weights, stream};
  DeviceBuffer<double> product{area(m.value, n.value)}, magnitude{area(m.value, n.value)};
  product.fill_bytes(kPoison, stream);
  magnitude.fill_bytes(kPoison, stream);
  run(w.data(), product.data(), magnitude.data());
  return {product.to_host(stream), magnitude.to_host(stream)};
}

}  // namespace

GpuReference gpu_reference(std::span<const float> weights, K k, N n,
                           std::span<const std::uint16_t> activations, M m, Float type) {
  require_size("activations", activations.size(), area(m.value, k.value));
  require_gpu();
  const Stream stream;
  const DeviceBuffer<std::uint16_t> a{activations, stream};
  return run_reference(weights, k, n, m, stream, [&](const float* w, double* product, double* magnitude) {
    reference(w, k, n, a.data(), type, m, product, magnitude, stream.get());
  });
}
GpuReference gpu_reference(std::span<const float> weights, K k, N n, const QuantizedRows& activations, M m,
                           Activation8 type) {
  require_size("activations", activations.values.size(), area(m.value, k.value));
  require_size("scales of activations", activations.scales.size(), area(m.value, 1));
  require_gpu();
  const Stream stream;
  const DeviceBuffer<std::byte> a{activations.values, stream};
  const DeviceBuffer<float> scales{activations.scales, stream};
  return run_reference(weights, k, n, m, stream, [&](const float* w, double* product, double* magnitude) {
    reference(w, k, n, a.data(), type, scales.data(), m, product, magnitude, stream.get());
  });
}

}  // namespace mpk
