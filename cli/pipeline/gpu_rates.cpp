#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "cli/pipeline/engine_rates.hpp"
#include "cli/pipeline/gpu_float.hpp"
#include "cli/pipeline/timer.hpp"
#include "quantizer/cuda/gpu_quantizer.hpp"
#include "quantizer/cuda/random_layer.hpp"

namespace mpk {
namespace {

// Of the time of a forward pass, products take about so much; the rest is attention and what lies between
// them.
constexpr double kProductsShare = 0.8;

class GpuRates final : public EngineRates {
 public:
  GpuRates(const QuantizeJob& job, GpuCompute compute) : job_{job} { measure_product(gpu_float(compute)); }
  double product() const override { return product_ * kProductsShare; }
  double gram() const override { return product_ * kProductsShare; }
  /// Measured with these inputs and as many of the outputs as fill the GPU; each output takes as long as
  /// another.
  double solve(double k, double n) const override {
    const auto [at, is_new] = measured_.try_emplace({k, std::min(n, kOutputs)}, 0);
    if (is_new) at->second = solver_time(k, at->first.second);
    return at->second * n / at->first.second;
  }

 private:
  static constexpr double kOutputs = 4096;

  template <class Work>
  double seconds_of(Work work) const {
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 2; ++i) {  // the first loads the kernels and allocates
      double seconds = 0;
      {
        Timer timer{seconds};
        work();
        stream_.wait();
      }
      best = std::min(best, seconds);
    }
    return best;
  }

  void measure_product(GpuFloat type) {
    constexpr std::int64_t side = 4096;
    DeviceBuffer<std::byte> a{side * side * 4}, b{side * side * 4}, c{side * side * 4};
    gpu_steps::random_weight(side * side * 2, 1, 1, a.data(), stream_);
    gpu_steps::random_weight(side * side * 2, 1, 2, b.data(), stream_);
    product_ = 2.0 * side * side * side / seconds_of([&] {
                 blas_.gemm(GpuOp::transpose, GpuOp::none, side, side, side, 1, {a.data(), type, side},
                            {b.data(), type, side}, 0, {c.data(), type, side});
               });
  }

  double solver_time(double inputs, double outputs) const {
    const auto k = static_cast<std::int64_t>(inputs), n = static_cast<std::int64_t>(outputs);
    DeviceBuffer<std::uint16_t> x{static_cast<std::size_t>(2 * k * k)},
        weight{static_cast<std::size_t>(n * k)};
    DeviceBuffer<float> hessian{static_cast<std::size_t>(k * k)};
    gpu_steps::random_inputs(k, 2 * k, 1, x.data(), stream_);
    blas_.gemm(GpuOp::none, GpuOp::transpose, k, k, 2 * k, 1, {x.data(), GpuFloat::bf16, k},
               {x.data(), GpuFloat::bf16, k}, 0, {hessian.data(), GpuFloat::f32, k});
    gpu_steps::random_weight(n * k, 0.02f, 3, weight.data(), stream_);
    QuantizerOptions options = job_.options;
    options.scheme = job_.recipe.scheme;
    // A layer whose own scheme differs takes about as long by this one.
    if (options.scheme.group_size && !divides(*options.scheme.group_size, K{k}))
      options.scheme.group_size.reset();
    const GpuStatistics seen{hessian.data(), job_.corrects_targets() ? hessian.data() : nullptr, nullptr};
    return seconds_of([&] {
      quantizer_.begin(K{k}, seen, options);
      quantizer_.solve(weight.data(), GpuFloat::bf16, N{n}, options, job_.target_correction);
    });
  }

  const QuantizeJob& job_;
  Stream stream_;
  Blas blas_{stream_};
  mutable GpuQuantizer quantizer_{blas_};
  mutable std::map<std::pair<double, double>, double> measured_;  ///< by inputs and outputs
  double product_ = 0;
};

}  // namespace

std::unique_ptr<EngineRates> make_gpu_rates(const QuantizeJob& job, GpuCompute compute) {
  return std::make_unique<GpuRates>(job, compute);
}

}  // namespace mpk
