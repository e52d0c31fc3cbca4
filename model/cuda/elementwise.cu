// Norms, positions, activations: one pass over memory each, in float32 between load and store.

#include "gpu/launch.cuh"
#include "model/cuda/steps.hpp"

namespace mpk::gpu_steps {
namespace {

constexpr int kThreads = 256, kWarp = 32;

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

/// One block per token.
template <class T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(std::int64_t n, const float* x, const float* weight, float eps, T* out) {
  __shared__ float partial[kThreads / kWarp];
  const float* token = x + blockIdx.x * n;
  float sum = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += kThreads) sum += token[i] * token[i];
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < kThreads / kWarp; ++i) sum += partial[i];
  const float factor = 1.0f / sqrtf(sum / static_cast<float>(n) + eps);
  for (std::int64_t i = threadIdx.x; i < n; i += kThreads)
    store_float(out + blockIdx.x * n + i, token[i] * factor * weight[i]);
}

/// One warp per head of q, k or v and token.
template <class T>
__global__ void __launch_bounds__(kThreads)
    position_kernel(HeadShape shape, std::int64_t length, std::int64_t tokens, HeadPositions p, T* qkv) {
  const std::int64_t heads = shape.num_heads + 2 * shape.num_kv_heads;
  const std::int64_t warp = (blockIdx.x * std::int64_t{kThreads} + threadIdx.x) / kWarp;
  if (warp >= heads * tokens) return;
  const std::int64_t token = warp / heads, head = warp % heads;
  const int dim = static_cast<int>(shape.head_dim), half = dim / 2, lane = threadIdx.x % kWarp;
  T* data = qkv + warp * dim;
  const float* bias = p.bias ? p.bias + head * dim : nullptr;
  const auto value = [&](int i) { return load_float(data + i) + (bias ? bias[i] : 0.0f); };
  const bool is_value = head >= shape.num_heads + shape.num_kv_heads;
  if (is_value) {
    if (bias)
      for (int i = lane; i < dim; i += kWarp) store_float(data + i, value(i));
    return;
  }
  const float* norm = head < shape.num_heads ? p.q_norm : p.k_norm;
  float factor = 1;
  if (norm) {
    float sum = 0;
    for (int i = lane; i < dim; i += kWarp) sum += value(i) * value(i);
    factor = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(dim) + p.eps);
  }
  const std::int64_t angle = token % length * half;
  for (int i = lane; i < half; i += kWarp) {  // element i turns with element i + half
    float a = value(i), b = value(i + half);
    if (norm) a *= factor * norm[i], b *= factor * norm[i + half];
    const float cos = p.cos[angle + i], sin = p.sin[angle + i];
    store_float(data + i, a * cos - b * sin);
    store_float(data + i + half, b * cos + a * sin);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    gate_kernel(std::int64_t n, std::int64_t size, const T* gate_up, const float* bias, T* out) {
  const std::int64_t at = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
  if (at >= size) return;
  const std::int64_t token = at / n, i = at % n;
  const T* column = gate_up + token * 2 * n;
  const float g = load_float(column + i) + (bias ? bias[i] : 0.0f);
  const float u = load_float(column + n + i) + (bias ? bias[n + i] : 0.0f);
  store_float(out + at, g / (1.0f + expf(-g)) * u);
}

__global__ void __launch_bounds__(kThreads)
    add_bias_kernel(std::int64_t n, std::int64_t size, const float* bias, float* x) {
  const std::int64_t at = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
  if (at < size) x[at] += bias[at % n];
}

template <class In, class Out>
__global__ void __launch_bounds__(kThreads)
    subtract_kernel(std::int64_t size, const In* a, const In* b, Out* out) {
  const std::int64_t at = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
  if (at < size) store_float(out + at, load_float(a + at) - load_float(b + at));
}

template <class In, class Out>
__global__ void __launch_bounds__(kThreads) convert_kernel(std::int64_t size, const In* in, Out* out) {
  const std::int64_t at = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
  if (at < size) store_float(out + at, load_float(in + at));
}

}  // namespace

void rms_norm(std::int64_t n, std::int64_t tokens, const float* x, const float* weight, float eps, void* out,
              GpuFloat type, const Stream& stream) {
  with_type(type, out, [&](auto* typed) {
    rms_norm_kernel<<<static_cast<unsigned>(tokens), kThreads, 0, stream.get()>>>(n, x, weight, eps, typed);
  });
  check_launch("rms_norm");
}
void position_heads(const HeadShape& shape, std::int64_t length, std::int64_t tokens,
                    const HeadPositions& positions, void* qkv, GpuFloat type, const Stream& stream) {
  const std::int64_t warps = (shape.num_heads + 2 * shape.num_kv_heads) * tokens;
  with_type(type, qkv, [&](auto* typed) {
    position_kernel<<<blocks_for(warps, kThreads / kWarp), kThreads, 0, stream.get()>>>(shape, length, tokens,
                                                                                        positions, typed);
  });
  check_launch("position_heads");
}
void gate(std::int64_t n, std::int64_t tokens, const void* gate_up, const float* bias, void* out,
          GpuFloat type, const Stream& stream) {
  with_type(type, out, [&]<class T>(T* typed) {
    gate_kernel<<<blocks_for(n * tokens, kThreads), kThreads, 0, stream.get()>>>(
        n, n * tokens, static_cast<const T*>(gate_up), bias, typed);
  });
  check_launch("gate");
}
void add_bias(std::int64_t n, std::int64_t tokens, const float* bias, float* x, const Stream& stream) {
  add_bias_kernel<<<blocks_for(n * tokens, kThreads), kThreads, 0, stream.get()>>>(n, n * tokens, bias, x);
  check_launch("add_bias");
}
void subtract(std::int64_t size, const void* a, const void* b, void* out, GpuFloat type,
              const Stream& stream) {
  with_type(type, out, [&]<class T>(T* typed) {
    subtract_kernel<<<blocks_for(size, kThreads), kThreads, 0, stream.get()>>>(
        size, static_cast<const T*>(a), static_cast<const T*>(b), typed);
  });
  check_launch("subtract");
}
void subtract(std::int64_t size, const float* a, const float* b, void* out, GpuFloat type,
              const Stream& stream) {
  with_type(type, out, [&](auto* typed) {
    subtract_kernel<<<blocks_for(size, kThreads), kThreads, 0, stream.get()>>>(size, a, b, typed);
  });
  check_launch("subtract");
}
void convert(std::int64_t size, const void* in, GpuFloat in_type, void* out, GpuFloat out_type,
             const Stream& stream) {
  if (in_type == out_type) {
    if (in != out)
      MPK_CUDA(cudaMemcpyAsync(out, in, static_cast<std::size_t>(size) * bytes_of(in_type),
                               cudaMemcpyDeviceToDevice, stream.get()));
    return;
  }
  with_type(in_type, in, [&](const auto* from) {
    with_type(out_type, out, [&](auto* to) {
      convert_kernel<<<blocks_for(size, kThreads), kThreads, 0, stream.get()>>>(size, from, to);
    });
  });
  check_launch("convert");
}

}  // namespace mpk::gpu_steps
