// From logits to what a prediction is worth.

#include <cfloat>

#include "gpu/launch.cuh"
#include "model/cuda/steps.hpp"

namespace mpk::gpu_steps {
namespace {

constexpr int kThreads = 256;

struct Best {
  float logit;
  int id;
};
/// The larger; the first of equals.
__device__ Best better(Best a, Best b) {
  return b.logit > a.logit || (b.logit == a.logit && b.id < a.id) ? b : a;
}

/// Over the block, in a fixed order; all threads get the result.
template <class T, class Join>
__device__ T reduce(T value, Join join) {
  __shared__ T shared[kThreads];
  shared[threadIdx.x] = value;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.x) < half)
      shared[threadIdx.x] = join(shared[threadIdx.x], shared[threadIdx.x + half]);
    __syncthreads();
  }
  const T result = shared[0];
  __syncthreads();
  return result;
}
__device__ double sum_of(double value) {
  return reduce(value, [](double a, double b) { return a + b; });
}
__device__ Best best_of(const float* logits, int vocab) {
  Best best{-FLT_MAX, 0};
  for (int i = threadIdx.x; i < vocab; i += kThreads) best = better(best, {logits[i], i});
  return reduce(best, [](Best a, Best b) { return better(a, b); });
}

__device__ double sum_of_exponentials(const float* logits, int vocab, float top) {
  double sum = 0;
  for (int i = threadIdx.x; i < vocab; i += kThreads) sum += static_cast<double>(expf(logits[i] - top));
  return sum_of(sum);
}

/// One block per token; logits (vocab, tokens) of the model and, unless nullptr, of the reference.
__global__ void __launch_bounds__(kThreads, 4)
    predictions_kernel(int vocab, const float* model, const float* reference, const std::int32_t* came,
                       GpuPrediction* out) {
  const float* own = model + std::int64_t{blockIdx.x} * vocab;
  const std::int32_t token = came[blockIdx.x];
  const Best top = best_of(own, vocab);
  GpuPrediction result{};
  result.model = {sum_of_exponentials(own, vocab, top.logit), top.logit, own[token]};
  if (reference) {
    const float* other = reference + std::int64_t{blockIdx.x} * vocab;
    const Best other_top = best_of(other, vocab);
    result.reference = {sum_of_exponentials(other, vocab, other_top.logit), other_top.logit, other[token]};
    double moment = 0;
    for (int i = threadIdx.x; i < vocab; i += kThreads)
      moment +=
          static_cast<double>(expf(other[i] - other_top.logit)) * (static_cast<double>(other[i]) - own[i]);
    result.moment = sum_of(moment);
    result.agree = top.id == other_top.id;
  }
  if (threadIdx.x == 0) out[blockIdx.x] = result;
}

}  // namespace

void predictions(std::int64_t vocab, std::int64_t tokens, const float* model, const float* reference,
                 const std::int32_t* came, GpuPrediction* out, const Stream& stream) {
  predictions_kernel<<<static_cast<unsigned>(tokens), kThreads, 0, stream.get()>>>(
      static_cast<int>(vocab), model, reference, came, out);
  check_launch("predictions");
}

}  // namespace mpk::gpu_steps
