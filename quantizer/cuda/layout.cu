// Gathers, transposes and sums between the solvers' steps.

#include "quantizer/cuda/levels.cuh"

namespace mpk::gpu_steps {
namespace {

constexpr int kTile = 32, kTileRows = 8;  // transposes: 32 x 32 elements by 32 x 8 threads

__global__ void mirror_kernel(std::int64_t k, float* h) {
  __shared__ float tile[kTile][kTile + 1];
  if (blockIdx.x > blockIdx.y) return;  // tiles on and below the diagonal: rows y, columns x
  const std::int64_t row = blockIdx.y * std::int64_t{kTile}, col = blockIdx.x * std::int64_t{kTile};
  for (int j = threadIdx.y; j < kTile; j += kTileRows)
    if (row + threadIdx.x < k && col + j < k) tile[j][threadIdx.x] = h[row + threadIdx.x + (col + j) * k];
  __syncthreads();
  for (int j = threadIdx.y; j < kTile; j += kTileRows) {
    const std::int64_t to_row = col + threadIdx.x, to_col = row + j;
    if (to_row < to_col && to_col < k) h[to_row + to_col * k] = tile[threadIdx.x][j];
  }
}

__global__ void diagonal_kernel(std::int64_t k, const float* h, float* out) {
  const std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x;
  if (i < k) out[i] = h[i * (k + 1)];
}

__global__ void gather_lower_kernel(std::int64_t k, const float* h, const std::int32_t* order, float for_dead,
                                    float added, float* a) {
  const std::int64_t row = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x, col = blockIdx.y;
  if (row >= k || row < col) return;
  float value = h[order[row] + std::int64_t{order[col]} * k];
  if (row == col) value = static_cast<float>(static_cast<double>(value == 0 ? for_dead : value) + added);
  a[row + col * k] = value;
}

template <class T>
__global__ void load_weight_kernel(std::int64_t n, std::int64_t k, const T* weight, float* out) {
  __shared__ float tile[kTile][kTile + 1];
  const std::int64_t out_n = blockIdx.x * std::int64_t{kTile}, in_k = blockIdx.y * std::int64_t{kTile};
  for (int j = threadIdx.y; j < kTile; j += kTileRows)
    if (out_n + j < n && in_k + threadIdx.x < k)
      tile[j][threadIdx.x] = load_float(weight + (out_n + j) * k + in_k + threadIdx.x);
  __syncthreads();
  for (int j = threadIdx.y; j < kTile; j += kTileRows)
    if (out_n + threadIdx.x < n && in_k + j < k)
      out[out_n + threadIdx.x + (in_k + j) * n] = tile[threadIdx.x][j];
}

__global__ void clear_dead_kernel(std::int64_t n, const float* diagonal, float* weights) {
  const std::int64_t row = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x, col = blockIdx.y;
  if (row < n && diagonal[col] == 0) weights[row + col * n] = 0;
}

__global__ void gather_columns_kernel(std::int64_t n, const float* in, const std::int32_t* order,
                                      float* out) {
  const std::int64_t row = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x, col = blockIdx.y;
  if (row < n) out[row + col * n] = in[row + std::int64_t{order[col]} * n];
}

template <bool kAdd>
__global__ void scatter_columns_kernel(std::int64_t n, const float* in, const std::int32_t* order,
                                       float scale, float* out, const std::uint8_t* codes_in,
                                       std::uint8_t* codes_out) {
  const std::int64_t row = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x, col = blockIdx.y;
  if (row >= n) return;
  const std::int64_t to = row + std::int64_t{order[col]} * n, from = row + col * n;
  if (in) out[to] = (kAdd ? out[to] : 0.0f) + scale * in[from];
  if (codes_in) codes_out[to] = codes_in[from];
}

__global__ void transpose_codes_kernel(std::int64_t n, std::int64_t k, const std::uint8_t* in,
                                       std::uint8_t* out) {
  __shared__ std::uint8_t tile[kTile * 4][kTile * 4 + 4];
  const std::int64_t out_n = blockIdx.x * std::int64_t{kTile * 4},
                     in_k = blockIdx.y * std::int64_t{kTile * 4};
  for (int j = threadIdx.y; j < kTile * 4; j += kTileRows)
    for (int i = threadIdx.x; i < kTile * 4; i += kTile)
      if (out_n + i < n && in_k + j < k) tile[j][i] = in[out_n + i + (in_k + j) * n];
  __syncthreads();
  for (int j = threadIdx.y; j < kTile * 4; j += kTileRows)
    for (int i = threadIdx.x; i < kTile * 4; i += kTile)
      if (out_n + j < n && in_k + i < k) out[in_k + i + (out_n + j) * k] = tile[i][j];
}

constexpr int kReduceThreads = 256;

/// The sum over the block's threads, in a fixed order; the result is thread 0's.
__device__ double block_sum(double value) {
  __shared__ double partial[kReduceThreads];
  partial[threadIdx.x] = value;
  __syncthreads();
  for (int half = kReduceThreads / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.x) < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  const double sum = partial[0];
  __syncthreads();
  return sum;
}

/// One block per output.
template <class T>
__global__ void __launch_bounds__(kReduceThreads)
    decode_over_kernel(std::int64_t n, std::int64_t k, const std::uint8_t* codes, CodeSpace space,
                       GroupRanges ranges, T* weight, double* partial) {
  const std::int64_t col = blockIdx.x;
  double changed = 0, whole = 0;
  for (std::int64_t i = threadIdx.x; i < k; i += kReduceThreads) {
    const std::int64_t at = i + col * k, range = col + i / ranges.rows_per_group * n;
    const float zero = space.stored_zeros ? ranges.zeros[range] : space.bias;
    const float decoded = (static_cast<float>(codes[at]) - zero) * ranges.scales[range];
    const float before = load_float(weight + at), apart = before - decoded;
    changed += static_cast<double>(apart) * apart;
    whole += static_cast<double>(before) * before;
    store_float(weight + at, decoded);
  }
  changed = block_sum(changed);
  whole = block_sum(whole);
  if (threadIdx.x == 0) partial[2 * col] = changed, partial[2 * col + 1] = whole;
}

__global__ void __launch_bounds__(kReduceThreads)
    dot_kernel(std::int64_t size, const float* a, const float* b, double* partial) {
  double sum = 0;
  for (std::int64_t i = blockIdx.x * std::int64_t{kReduceThreads} + threadIdx.x; i < size;
       i += std::int64_t{kReduceThreads} * gridDim.x)
    sum += static_cast<double>(a[i]) * b[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kReduceThreads)
    distance_kernel(std::int64_t size, const float* a, const float* b, double* partial) {
  double apart = 0, whole = 0;
  for (std::int64_t i = blockIdx.x * std::int64_t{kReduceThreads} + threadIdx.x; i < size;
       i += std::int64_t{kReduceThreads} * gridDim.x) {
    const double difference = static_cast<double>(a[i]) - b[i];
    apart += difference * difference;
    whole += static_cast<double>(b[i]) * b[i];
  }
  apart = block_sum(apart);
  whole = block_sum(whole);
  if (threadIdx.x == 0) partial[2 * blockIdx.x] = apart, partial[2 * blockIdx.x + 1] = whole;
}

constexpr int kRowThreads = 256;
dim3 rows_by_columns(std::int64_t rows, std::int64_t columns) {
  return {blocks_for(rows, kRowThreads), static_cast<unsigned>(columns)};
}

}  // namespace

void mirror_lower(std::int64_t k, float* h, const Stream& stream) {
  const unsigned tiles = blocks_for(k, kTile);
  mirror_kernel<<<dim3{tiles, tiles}, dim3{kTile, kTileRows}, 0, stream.get()>>>(k, h);
  check_launch("mirror_lower");
}
void diagonal(std::int64_t k, const float* h, float* out, const Stream& stream) {
  diagonal_kernel<<<blocks_for(k, kRowThreads), kRowThreads, 0, stream.get()>>>(k, h, out);
  check_launch("diagonal");
}
void gather_lower(std::int64_t k, const float* h, const std::int32_t* order, float for_dead, float added,
                  float* a, const Stream& stream) {
  gather_lower_kernel<<<rows_by_columns(k, k), kRowThreads, 0, stream.get()>>>(k, h, order, for_dead, added,
                                                                               a);
  check_launch("gather_lower");
}
void load_weight(std::int64_t n, std::int64_t k, const void* weight, GpuFloat type, float* out,
                 const Stream& stream) {
  with_type(type, weight, [&](const auto* typed) {
    load_weight_kernel<<<dim3{blocks_for(n, kTile), blocks_for(k, kTile)}, dim3{kTile, kTileRows}, 0,
                         stream.get()>>>(n, k, typed, out);
  });
  check_launch("load_weight");
}
void clear_dead(std::int64_t n, std::int64_t k, const float* diagonal, float* weights, const Stream& stream) {
  clear_dead_kernel<<<rows_by_columns(n, k), kRowThreads, 0, stream.get()>>>(n, diagonal, weights);
  check_launch("clear_dead");
}
void gather_columns(std::int64_t n, std::int64_t k, const float* in, const std::int32_t* order, float* out,
                    const Stream& stream) {
  gather_columns_kernel<<<rows_by_columns(n, k), kRowThreads, 0, stream.get()>>>(n, in, order, out);
  check_launch("gather_columns");
}
void scatter_columns(std::int64_t n, std::int64_t k, const float* in, const std::int32_t* order, float scale,
                     float* out, const std::uint8_t* codes_in, std::uint8_t* codes_out,
                     const Stream& stream) {
  scatter_columns_kernel<false><<<rows_by_columns(n, k), kRowThreads, 0, stream.get()>>>(
      n, in, order, scale, out, codes_in, codes_out);
  check_launch("scatter_columns");
}
void add_scattered(std::int64_t n, std::int64_t k, const float* in, const std::int32_t* order, float scale,
                   float* out, const Stream& stream) {
  scatter_columns_kernel<true>
      <<<rows_by_columns(n, k), kRowThreads, 0, stream.get()>>>(n, in, order, scale, out, nullptr, nullptr);
  check_launch("add_scattered");
}
void transpose_codes(std::int64_t n, std::int64_t k, const std::uint8_t* in, std::uint8_t* out,
                     const Stream& stream) {
  transpose_codes_kernel<<<dim3{blocks_for(n, kTile * 4), blocks_for(k, kTile * 4)}, dim3{kTile, kTileRows},
                           0, stream.get()>>>(n, k, in, out);
  check_launch("transpose_codes");
}
void decode_over(std::int64_t n, std::int64_t k, const std::uint8_t* codes, const CodeSpace& space,
                 const GroupRanges& ranges, void* weight, GpuFloat type, double* partial,
                 const Stream& stream) {
  with_type(type, weight, [&](auto* typed) {
    decode_over_kernel<<<static_cast<unsigned>(n), kReduceThreads, 0, stream.get()>>>(n, k, codes, space,
                                                                                      ranges, typed, partial);
  });
  check_launch("decode_over");
}
void dot(std::int64_t size, const float* a, const float* b, double* partial, const Stream& stream) {
  dot_kernel<<<kDotParts, kReduceThreads, 0, stream.get()>>>(size, a, b, partial);
  check_launch("dot");
}
void distance(std::int64_t size, const float* a, const float* b, double* partial, const Stream& stream) {
  distance_kernel<<<kDotParts, kReduceThreads, 0, stream.get()>>>(size, a, b, partial);
  check_launch("distance");
}

}  // namespace mpk::gpu_steps
