// One block of inputs of GPTQ (gptq.cpp has the formula), one thread per output. A thread keeps 32 inputs in
// registers; the errors of the block's other inputs stand in shared memory beside the factor's square.

#include "quantizer/cuda/levels.cuh"

namespace mpk::gpu_steps {
namespace {

constexpr int kThreads = 64, kPart = 32;
constexpr int kRow = kBlock + 4;  // of the factor in shared memory: 16-byte aligned, banks apart
constexpr int kSharedBytes = (kBlock * kRow + kBlock * kThreads) * static_cast<int>(sizeof(float));

/// kSolve: codes are chosen. Otherwise each weight lands on its target, which goes to `corrected`.
template <bool kSolve>
__global__ void __launch_bounds__(kThreads)
    block_kernel(SolveState s, std::int64_t begin, int width, float* corrected) {
  extern __shared__ float shared[];
  float* factor = shared;                  // [i][j] = L(begin + i, begin + j), j <= i
  float* errors = shared + kBlock * kRow;  // [i][thread]
  for (int at = threadIdx.x; at < kBlock * kBlock; at += kThreads) {
    const int i = at % kBlock, j = at / kBlock;
    factor[i * kRow + j] = i < width && j <= i ? s.factor[begin + i + (begin + j) * s.k] : 0.0f;
  }
  __syncthreads();
  const std::int64_t col = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
  const bool inside = col < s.n;
  const std::int64_t row = inside ? col : s.n - 1;  // all threads compute, some for nothing
  double loss = 0;
  for (int part = (width - 1) / kPart; part >= 0; --part) {
    const int first = part * kPart;
    float sum[kPart], weight[kPart];
#pragma unroll
    for (int j = 0; j < kPart; ++j) {
      const bool is = first + j < width;
      const std::int64_t at = row + (begin + first + j) * s.n;
      sum[j] = is ? s.pull[at] : 0.0f;
      weight[j] = is ? s.weights[at] : 0.0f;
    }
    for (int i = first + kPart; i < width; ++i) {
      const float error = errors[i * kThreads + threadIdx.x];
      const float4* r = reinterpret_cast<const float4*>(factor + i * kRow + first);
#pragma unroll
      for (int q = 0; q < kPart / 4; ++q) {
        const float4 v = r[q];
        sum[4 * q] += error * v.x, sum[4 * q + 1] += error * v.y;
        sum[4 * q + 2] += error * v.z, sum[4 * q + 3] += error * v.w;
      }
    }
#pragma unroll
    for (int j = kPart - 1; j >= 0; --j) {
      const int i = first + j;
      if (i >= width) continue;
      const float* r = factor + i * kRow + first;
      const float diagonal = r[j];
      const float target = weight[j] + sum[j] / diagonal;
      float error;
      if constexpr (kSolve) {
        const std::int64_t range = row + s.order[begin + i] / s.ranges.rows_per_group * s.n;
        const float scale = s.ranges.scales[range];
        const float lowest = s.space.stored_zeros ? -s.ranges.zeros[range] : -s.space.bias;
        const float level = nearest_level(target / scale, lowest, lowest + s.space.max_code);
        error = weight[j] - level * scale;
        const float gone = error * diagonal + sum[j];
        loss += static_cast<double>(gone) * gone - static_cast<double>(s.added) * error * error;
        if (inside) {
          const std::int64_t at = row + (begin + i) * s.n;
          s.codes[at] = static_cast<std::uint8_t>(static_cast<int>(level - lowest));
          s.weights[at] = error;
        }
      } else {
        error = -sum[j] / diagonal;
        if (inside) corrected[row + std::int64_t{width - 1 - i} * s.n] = target;
      }
      errors[i * kThreads + threadIdx.x] = error;
#pragma unroll
      for (int before = 0; before < kPart; ++before)
        if (before < j) sum[before] += error * r[before];
    }
  }
  if (kSolve && inside) s.loss[col] += loss;
}

template <bool kSolve>
void launch(const SolveState& state, std::int64_t begin, std::int64_t end, float* corrected,
            const Stream& stream) {
  static const bool once = [] {
    MPK_CUDA(cudaFuncSetAttribute(block_kernel<kSolve>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kSharedBytes));
    return true;
  }();
  (void)once;
  block_kernel<kSolve><<<blocks_for(state.n, kThreads), kThreads, kSharedBytes, stream.get()>>>(
      state, begin, static_cast<int>(end - begin), corrected);
  check_launch(kSolve ? "solve_block" : "corrected_block");
}

}  // namespace

void solve_block(const SolveState& state, std::int64_t begin, std::int64_t end, const Stream& stream) {
  launch<true>(state, begin, end, nullptr, stream);
}
void corrected_block(const SolveState& state, std::int64_t begin, std::int64_t end, float* corrected,
                     const Stream& stream) {
  launch<false>(state, begin, end, corrected, stream);
}

}  // namespace mpk::gpu_steps
