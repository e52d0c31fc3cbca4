// Causal softmax attention of grouped query heads, without the scores ever reaching memory.
//
// One block takes 64 queries of one head in one window, 16 a warp, and passes over the keys 64 at a time: the
// tensor cores multiply queries and keys, the running maximum and sum of each query rescale what was added so
// far, and the exponentials, rounded to 16 bits, are the left factor of the product with the values, in the
// registers where the scores came out. Keys and values of the next 64 arrive meanwhile.

#include "gpu/launch.cuh"
#include "kernels/device/cp_async.cuh"
#include "kernels/device/fragment.cuh"
#include "kernels/device/mma.cuh"
#include "kernels/device/packed_float.cuh"
#include "kernels/device/swizzle.cuh"
#include "model/cuda/steps.hpp"
#include "packer/format/error.hpp"

namespace mpk::gpu_steps {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarpSize;
constexpr int kQueries = kWarps * kMmaM, kKeys = 64;

struct AttentionArgs {
  HeadShape shape;
  std::int64_t length;
  std::int64_t window;  ///< tokens a query sees; length if all
};

/// Rows [first, first + 64) of one head's q, k or v; zeros past the window's end and the head's dimension.
template <int kDim>
__device__ void copy_rows(std::uint32_t shared, const std::uint16_t* head, std::int64_t row_stride,
                          std::int64_t first, const AttentionArgs& a) {
  constexpr int kChunks = kDim / 8;
  for (int at = threadIdx.x; at < kKeys * kChunks; at += kThreads) {
    const int row = at / kChunks, chunk = at % kChunks;
    const bool inside = first + row < a.length && chunk * 8 < a.shape.head_dim;
    const std::uint16_t* from = head + (inside ? (first + row) * row_stride + chunk * 8 : 0);
    cp_async(shared + kChunkBytes * activation_chunk<kChunks>(row, chunk), from, inside);
  }
}

template <Float kFloat, int kDim>
__global__ void __launch_bounds__(kThreads)
    attention_kernel(AttentionArgs a, const std::uint16_t* qkv, std::uint16_t* out) {
  constexpr int kChunks = kDim / 8, kTileBytes = kKeys * kDim * 2;
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const std::uint32_t shared_q = shared_address(shared_bytes), shared_kv = shared_q + kTileBytes;
  const std::int64_t dim = a.shape.head_dim, stride = a.shape.rows();
  const std::int64_t head = blockIdx.y, kv_head = head / (a.shape.num_heads / a.shape.num_kv_heads);
  const std::uint16_t* window = qkv + blockIdx.z * a.length * stride;
  // The last queries have the most keys: they begin first.
  const std::int64_t first_query = std::int64_t{gridDim.x - 1 - blockIdx.x} * kQueries;
  const std::uint16_t* keys = window + (a.shape.num_heads + kv_head) * dim;
  const std::uint16_t* values = keys + a.shape.num_kv_heads * dim;

  const std::int64_t lowest_key = max(std::int64_t{0}, first_query + 1 - a.window);
  const int first_tile = static_cast<int>(lowest_key / kKeys);
  const int tiles = static_cast<int>((min(first_query + kQueries, a.length) + kKeys - 1) / kKeys);
  copy_rows<kDim>(shared_q, window + head * dim, stride, first_query, a);
  copy_rows<kDim>(shared_kv, keys, stride, std::int64_t{first_tile} * kKeys, a);
  copy_rows<kDim>(shared_kv + kTileBytes, values, stride, std::int64_t{first_tile} * kKeys, a);
  cp_async_commit();

  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const LanePlace place = lane_place(lane);
  const float scale = rsqrtf(static_cast<float>(dim)) * 1.44269504f;  // scores as exponents of 2
  float sums[kDim / 8][4] = {};
  float top[2] = {-INFINITY, -INFINITY}, total[2] = {};
  FragmentA q[kDim / kMmaK];
  for (int tile = first_tile; tile < tiles; ++tile) {
    const std::uint32_t buffer = shared_kv + (tile - first_tile) % 2 * 2 * kTileBytes;
    if (tile + 1 < tiles) {
      const std::uint32_t next = shared_kv + (tile + 1 - first_tile) % 2 * 2 * kTileBytes;
      copy_rows<kDim>(next, keys, stride, std::int64_t{tile + 1} * kKeys, a);
      copy_rows<kDim>(next + kTileBytes, values, stride, std::int64_t{tile + 1} * kKeys, a);
    }
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    if (tile == first_tile) {
      const RowCol at = a_row_of_lane(lane);
#pragma unroll
      for (int i = 0; i < kDim / kMmaK; ++i)
        q[i] = ldmatrix_x4(shared_q +
                           kChunkBytes * activation_chunk<kChunks>(warp * kMmaM + at.row, 2 * i + at.col));
    }

    float scores[kKeys / 8][4] = {};
#pragma unroll
    for (int pair = 0; pair < kKeys / 16; ++pair)
#pragma unroll
      for (int i = 0; i < kDim / kMmaK; ++i) {
        const int row = pair * 16 + lane / 16 * 8 + lane % 8, chunk = 2 * i + lane / 8 % 2;
        const FragmentA both = ldmatrix_x4(buffer + kChunkBytes * activation_chunk<kChunks>(row, chunk));
        mma<kFloat>(scores[2 * pair], q[i], {{both.reg[0], both.reg[1]}});
        mma<kFloat>(scores[2 * pair + 1], q[i], {{both.reg[2], both.reg[3]}});
      }

    const std::int64_t first_key = std::int64_t{tile} * kKeys;
    const bool partial = first_key + kKeys > first_query + 1 || first_key < first_query + kQueries - a.window;
#pragma unroll
    for (int block = 0; block < kKeys / 8; ++block)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[block][i] *= scale;
        if (!partial) continue;
        const std::int64_t query = first_query + warp * kMmaM + place.row + 8 * (i / 2);
        const std::int64_t key = first_key + 8 * block + 2 * place.quad + i % 2;
        if (key > query || key + a.window <= query) scores[block][i] = -INFINITY;
      }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = top[half];
#pragma unroll
      for (int block = 0; block < kKeys / 8; ++block)
        largest = fmaxf(largest, fmaxf(scores[block][2 * half], scores[block][2 * half + 1]));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
      const float base = largest == -INFINITY ? 0.0f : largest;  // no key in sight yet
      const float shrink = exp2f(top[half] - base);
      top[half] = largest;
      float sum = 0;
#pragma unroll
      for (int block = 0; block < kKeys / 8; ++block)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[block][i] = exp2f(scores[block][i] - base);
          sum += scores[block][i];
        }
      total[half] = total[half] * shrink + sum;
#pragma unroll
      for (int block = 0; block < kDim / 8; ++block)
        sums[block][2 * half] *= shrink, sums[block][2 * half + 1] *= shrink;
    }

#pragma unroll
    for (int pair = 0; pair < kKeys / 16; ++pair) {
      const auto& left = scores[2 * pair];
      const auto& right = scores[2 * pair + 1];
      const FragmentA p{{round_to<kFloat>(left[0], left[1]), round_to<kFloat>(left[2], left[3]),
                         round_to<kFloat>(right[0], right[1]), round_to<kFloat>(right[2], right[3])}};
#pragma unroll
      for (int i = 0; i < kDim / 16; ++i) {
        const int row = pair * 16 + lane % 16, chunk = 2 * i + lane / 16;
        const FragmentA both =
            ldmatrix_x4_transposed(buffer + kTileBytes + kChunkBytes * activation_chunk<kChunks>(row, chunk));
        mma<kFloat>(sums[2 * i], p, {{both.reg[0], both.reg[1]}});
        mma<kFloat>(sums[2 * i + 1], p, {{both.reg[2], both.reg[3]}});
      }
    }
    __syncthreads();  // before the buffer is filled again
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float all = total[half];
    all += __shfl_xor_sync(0xffffffffu, all, 1);
    all += __shfl_xor_sync(0xffffffffu, all, 2);
    const std::int64_t query = first_query + warp * kMmaM + place.row + 8 * half;
    if (query >= a.length) continue;
    std::uint16_t* token = out + ((blockIdx.z * a.length + query) * a.shape.num_heads + head) * dim;
#pragma unroll
    for (int block = 0; block < kDim / 8; ++block)
      if (8 * block < dim)
        *reinterpret_cast<std::uint32_t*>(token + 8 * block + 2 * place.quad) =
            round_to<kFloat>(sums[block][2 * half] / all, sums[block][2 * half + 1] / all);
  }
}

/// float32, for comparisons with the CPU: one warp per query and head, no tensor cores.
__global__ void __launch_bounds__(kThreads)
    float_attention_kernel(AttentionArgs a, std::int64_t tokens, const float* qkv, float* out) {
  constexpr int kMaxPerLane = 8;
  const std::int64_t warp = (blockIdx.x * std::int64_t{kThreads} + threadIdx.x) / kWarpSize;
  if (warp >= tokens * a.shape.num_heads) return;
  const std::int64_t token = warp / a.shape.num_heads, head = warp % a.shape.num_heads;
  const std::int64_t dim = a.shape.head_dim, stride = a.shape.rows(), query = token % a.length;
  const float* window = qkv + (token - query) * stride;
  const float* keys = window + (a.shape.num_heads + head / (a.shape.num_heads / a.shape.num_kv_heads)) * dim;
  const float* values = keys + a.shape.num_kv_heads * dim;
  const int lane = threadIdx.x % kWarpSize;
  const float scale = 1.0f / sqrtf(static_cast<float>(dim));
  float q[kMaxPerLane] = {}, sum[kMaxPerLane] = {}, top = -INFINITY, total = 0;
  for (int i = 0; i < kMaxPerLane; ++i)
    if (lane + i * kWarpSize < dim) q[i] = window[query * stride + head * dim + lane + i * kWarpSize];
  for (std::int64_t key = max(std::int64_t{0}, query + 1 - a.window); key <= query; ++key) {
    float score = 0;
    for (int i = 0; i < kMaxPerLane; ++i)
      if (lane + i * kWarpSize < dim) score += q[i] * keys[key * stride + lane + i * kWarpSize];
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2)
      score += __shfl_xor_sync(0xffffffffu, score, distance);
    score *= scale;
    const float largest = fmaxf(top, score), shrink = expf(top - largest), weight = expf(score - largest);
    top = largest;
    total = total * shrink + weight;
    for (int i = 0; i < kMaxPerLane; ++i)
      if (lane + i * kWarpSize < dim)
        sum[i] = sum[i] * shrink + weight * values[key * stride + lane + i * kWarpSize];
  }
  for (int i = 0; i < kMaxPerLane; ++i)
    if (lane + i * kWarpSize < dim) out[warp * dim + lane + i * kWarpSize] = sum[i] / total;
}

template <Float kFloat, int kDim>
void launch(const AttentionArgs& args, std::int64_t tokens, const void* qkv, void* out,
            const Stream& stream) {
  constexpr int kSharedBytes = 5 * kKeys * kDim * 2;
  static const bool once = [] {
    MPK_CUDA(cudaFuncSetAttribute(attention_kernel<kFloat, kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kSharedBytes));
    return true;
  }();
  (void)once;
  const dim3 grid{blocks_for(args.length, kQueries), static_cast<unsigned>(args.shape.num_heads),
                  static_cast<unsigned>(tokens / args.length)};
  attention_kernel<kFloat, kDim><<<grid, kThreads, kSharedBytes, stream.get()>>>(
      args, static_cast<const std::uint16_t*>(qkv), static_cast<std::uint16_t*>(out));
}

}  // namespace

void attend(const HeadShape& shape, std::int64_t length, std::int64_t tokens,
            std::optional<std::int64_t> window, const void* qkv, void* out, GpuFloat type,
            const Stream& stream) {
  const AttentionArgs args{shape, length, window.value_or(length)};
  const std::int64_t dim = shape.head_dim;
  if (dim > (type == GpuFloat::f32 ? 256 : 128) || dim % 8 != 0)
    throw Error{ErrorKind::unsupported,
                "heads of " + std::to_string(dim) +
                    " elements: the GPU's attention takes multiples of 8 up to 128 (float32: 256)"};
  if (type == GpuFloat::f32)
    float_attention_kernel<<<blocks_for(tokens * shape.num_heads, kWarps), kThreads, 0, stream.get()>>>(
        args, tokens, static_cast<const float*>(qkv), static_cast<float*>(out));
  else if (type == GpuFloat::bf16)
    dim <= 64 ? launch<Float::bf16, 64>(args, tokens, qkv, out, stream)
              : launch<Float::bf16, 128>(args, tokens, qkv, out, stream);
  else
    dim <= 64 ? launch<Float::f16, 64>(args, tokens, qkv, out, stream)
              : launch<Float::f16, 128>(args, tokens, qkv, out, stream);
  check_launch("attend");
}

}  // namespace mpk::gpu_steps
