#include "gpu/check.hpp"
#include "kernels/family.hpp"

namespace mpk {
namespace {

__global__ void gather_kernel(const std::uint16_t* in, const std::int32_t* perm, std::uint16_t* out,
                              int k_size) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * k_size;
  const int k = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (k < k_size) out[row + k] = in[row + perm[k]];
}

}  // namespace

void gather_columns(const std::uint16_t* in, const std::int32_t* perm, std::uint16_t* out, M m, K k,
                    GpuStream stream) {
  constexpr int kThreads = 256, kMaxRows = 65535;  // of one launch's grid
  const auto columns = static_cast<unsigned>((k.value + kThreads - 1) / kThreads);
  for (std::int64_t row = 0; row < m.value; row += kMaxRows) {
    const auto rows = static_cast<unsigned>(m.value - row < kMaxRows ? m.value - row : kMaxRows);
    gather_kernel<<<dim3{columns, rows}, kThreads, 0, stream>>>(in + row * k.value, perm, out + row * k.value,
                                                                static_cast<int>(k.value));
    MPK_CUDA(cudaGetLastError());
  }
}

}  // namespace mpk
