// Numbers from a counter: the same for every launch shape.

#include "gpu/launch.cuh"
#include "quantizer/cuda/random_layer.hpp"

namespace mpk::gpu_steps {
namespace {

__device__ std::uint32_t mixed(std::uint64_t x) {  // splitmix64's finalizer
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return static_cast<std::uint32_t>((x ^ (x >> 31)) >> 32);
}
/// About normal: the sum of four uniforms has a variance of 1/3.
__device__ float normal(std::uint64_t seed, std::uint64_t at) {
  float sum = 0;
  for (int i = 0; i < 4; ++i)
    sum += static_cast<float>(mixed((seed << 48) + 4 * at + i + 1)) * 0x1p-32f - 0.5f;
  return sum * 1.7320508f;
}

__global__ void weight_kernel(std::int64_t size, float deviation, std::uint64_t seed, __nv_bfloat16* out) {
  const std::int64_t at = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x;
  if (at < size) store_float(out + at, deviation * normal(seed, static_cast<std::uint64_t>(at)));
}

__global__ void inputs_kernel(std::int64_t k, std::int64_t size, std::uint64_t seed, __nv_bfloat16* out) {
  const std::int64_t at = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x;
  if (at >= size) return;
  const std::int64_t input = at % k, token = at / k;
  // A sixteenth of the inputs moves together, in eight directions; one in 256 is large.
  const float common = normal(seed + 1, static_cast<std::uint64_t>(token * 8 + input % 8));
  const float own = normal(seed + 2, static_cast<std::uint64_t>(at));
  const float size_of = input % 256 == 5 ? 12.0f : 1.0f;
  store_float(out + at, size_of * (own + 0.7f * common));
}

constexpr int kThreads = 256;

}  // namespace

void random_weight(std::int64_t size, float deviation, std::uint64_t seed, void* out, const Stream& stream) {
  weight_kernel<<<blocks_for(size, kThreads), kThreads, 0, stream.get()>>>(size, deviation, seed,
                                                                           static_cast<__nv_bfloat16*>(out));
  check_launch("random_weight");
}
void random_inputs(std::int64_t k, std::int64_t tokens, std::uint64_t seed, void* out, const Stream& stream) {
  inputs_kernel<<<blocks_for(k * tokens, kThreads), kThreads, 0, stream.get()>>>(
      k, k * tokens, seed, static_cast<__nv_bfloat16*>(out));
  check_launch("random_inputs");
}

}  // namespace mpk::gpu_steps
