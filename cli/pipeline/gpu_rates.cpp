#include <algorithm>
#include <limits>

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
  explicit GpuRates(const QuantizeJob& job) : job_{job} {
    measure_product();
    // time = n k per_weight + n k^2 per_pair + k^3 per_cube: a wide, a deep and a square layer tell them
    // apart
    const double square = solver_time(kSide, kSide), wide = solver_time(kSide, 4 * kSide);
    const double deep = solver_time(4 * kSide, kSide);
    const double volume = kSide * kSide;
    const double per_output =
        std::max(0.0, (wide - square) / 3);  // volume per_weight + kSide volume per_pair
    per_cube_ = std::max(0.0, (square - per_output) / (volume * kSide));
    const double deep_rest =
        std::max(0.0, deep - 64 * volume * kSide * per_cube_);  // 4 volume w + 16 volume kSide p
    per_pair_ = std::max(0.0, (deep_rest - 4 * per_output) / (12 * volume * kSide));
    per_weight_ = std::max(0.0, per_output / volume - kSide * per_pair_);
  }
  double product() const override { return product_ * kProductsShare; }
  double gram() const override { return product_ * kProductsShare; }
  double solve(double k, double n) const override {
    return n * k * per_weight_ + n * k * k * per_pair_ + k * k * k * per_cube_;
  }

 private:
  static constexpr double kSide = 2048;

  template <class Work>
  double seconds_of(Work work) {
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 4; ++i) {  // the first loads the kernels
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

  void measure_product() {
    constexpr std::int64_t side = 4096;
    const GpuFloat type = gpu_float(job_.gpu_compute);
    DeviceBuffer<std::byte> a{side * side * 4}, b{side * side * 4}, c{side * side * 4};
    gpu_steps::random_weight(side * side * 2, 1, 1, a.data(), stream_);
    gpu_steps::random_weight(side * side * 2, 1, 2, b.data(), stream_);
    product_ = 2.0 * side * side * side / seconds_of([&] {
                 blas_.gemm(GpuOp::transpose, GpuOp::none, side, side, side, 1, {a.data(), type, side},
                            {b.data(), type, side}, 0, {c.data(), type, side});
               });
  }

  double solver_time(double inputs, double outputs) {
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
    const GpuStatistics seen{hessian.data(), job_.corrects_targets() ? hessian.data() : nullptr, nullptr};
    return seconds_of([&] {
      quantizer_.begin(K{k}, seen, options);
      quantizer_.solve(weight.data(), GpuFloat::bf16, N{n}, options, job_.target_correction);
    });
  }

  const QuantizeJob& job_;
  Stream stream_;
  Blas blas_{stream_};
  GpuQuantizer quantizer_{blas_};
  double product_ = 0, per_weight_ = 0, per_pair_ = 0, per_cube_ = 0;
};

}  // namespace

std::unique_ptr<EngineRates> make_gpu_rates(const QuantizeJob& job) {
  return std::make_unique<GpuRates>(job);
}

}  // namespace mpk
