// The solvers on the GPU beside those on the CPU: same problems, losses that agree to a thousandth, ranges
// that agree but where two candidates are as good. The order of sums differs, so a code may too.

#include <cmath>
#include <vector>

#include "gpu/device_buffer.hpp"
#include "kernels/gpu.hpp"
#include "quantizer/cuda/gpu_quantizer.hpp"
#include "quantizer/target.hpp"
#include "tests/quantizer/layers.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

struct Statistics {
  MatrixF hessian, shift, residual;  ///< (K, K), (K, K), (K, N); the last two may be empty
};

template <class M>
DeviceBuffer<float> on_gpu(const M& matrix, const Stream& stream) {
  const MatrixF plain = matrix;
  return {std::span{plain.data(), static_cast<std::size_t>(plain.size())}, stream};
}

GpuSolved solve_on_gpu(const MatrixF& weight, const Statistics& seen, const QuantizerOptions& options,
                       double correction = 0, MatrixF* left = nullptr) {
  const Stream stream;
  const Blas blas{stream};
  GpuQuantizer quantizer{blas};
  MatrixF lower = seen.hessian.triangularView<Eigen::Lower>();  // what is above must not be read
  lower.triangularView<Eigen::StrictlyUpper>().setConstant(std::nanf(""));
  DeviceBuffer<float> hessian = on_gpu(lower, stream), shift = on_gpu(seen.shift, stream);
  DeviceBuffer<float> residual = on_gpu(seen.residual.transpose(), stream), w = on_gpu(weight, stream);
  quantizer.begin(
      K{weight.rows()},
      {hessian.data(), shift.size() ? shift.data() : nullptr, residual.size() ? residual.data() : nullptr},
      options);
  GpuSolved solved = quantizer.solve(w.data(), GpuFloat::f32, N{weight.cols()}, options, correction);
  if (left) {
    const std::vector<float> host = w.to_host(stream);
    *left = Eigen::Map<const MatrixF>{host.data(), weight.rows(), weight.cols()};
  }
  return solved;
}

bool no_gpu() {
  if (gpu_status().usable) return false;
  WARN("no GPU: " << gpu_status().reason);
  return true;
}

QuantizerOptions options_for(std::optional<std::int64_t> group, ActOrder order) {
  QuantizerOptions options;
  if (group) options.scheme.group_size = GroupSize{*group};
  options.act_order = order;
  return options;
}

double same_codes(const QuantizedMatrix& a, const QuantizedMatrix& b) {
  return static_cast<double>((a.codes.array() == b.codes.array()).count()) /
         static_cast<double>(a.codes.size());
}

}  // namespace

TEST_CASE("GPU GPTQ loses what the CPU's loses", "[gpu]") {
  if (no_gpu()) return;
  const auto order = GENERATE(ActOrder::none, ActOrder::fixed_groups);
  const auto group = GENERATE(std::optional<std::int64_t>{}, std::optional<std::int64_t>{32},
                              std::optional<std::int64_t>{128});
  const auto ranges = GENERATE(Ranges::minmax, Ranges::mse, Ranges::hessian);
  const auto [k, n] = GENERATE(std::pair{128, 64}, std::pair{384, 200}, std::pair{1280, 96});
  const bool asymmetric = GENERATE(false, true);
  const Layer layer = random_layer(k, n, 11);
  QuantizerOptions options = options_for(group, order);
  options.ranges = ranges;
  options.signed_scales = true;
  if (asymmetric) options.scheme.type = kU4, options.scheme.zero_points = ZeroPoints::integer;
  CAPTURE(k, n, asymmetric, group.value_or(-1), static_cast<int>(order), static_cast<int>(ranges));
  MatrixF left;
  const GpuSolved gpu = solve_on_gpu(layer.weight, {layer.hessian, {}, {}}, options, 0, &left);
  const QuantizedLinear cpu = gptq(layer.view(), options);
  REQUIRE(near(gpu.linear.relative_loss, relative_loss(gpu.linear.matrix, layer), 2e-3));
  REQUIRE(near(relative_loss(gpu.linear.matrix, layer), relative_loss(cpu.matrix, layer), 2e-2));
  REQUIRE(same_codes(gpu.linear.matrix, cpu.matrix) > 0.8);
  REQUIRE(left == dequantize(gpu.linear.matrix));
  const GpuSolved again = solve_on_gpu(layer.weight, {layer.hessian, {}, {}}, options);
  REQUIRE(same_bits(gpu.linear, again.linear));
}

TEST_CASE("GPU descent loses what the CPU's loses, and less than without", "[gpu]") {
  if (no_gpu()) return;
  const auto group = GENERATE(std::optional<std::int64_t>{}, std::optional<std::int64_t>{32},
                              std::optional<std::int64_t>{64}, std::optional<std::int64_t>{128});
  const Layer layer = random_layer(512, 160, 21);
  QuantizerOptions options = options_for(group, ActOrder::fixed_groups);
  options.signed_scales = true;
  const double before =
      relative_loss(solve_on_gpu(layer.weight, {layer.hessian, {}, {}}, options).linear.matrix, layer);
  options.descent_sweeps = 4;
  const GpuSolved gpu = solve_on_gpu(layer.weight, {layer.hessian, {}, {}}, options);
  const double after = relative_loss(gpu.linear.matrix, layer);
  CAPTURE(group.value_or(-1), before, after);
  REQUIRE(after < before);
  REQUIRE(near(gpu.linear.relative_loss, after, 2e-3));
  REQUIRE(near(after, relative_loss(gptq(layer.view(), options).matrix, layer), 2e-2));
}

TEST_CASE("GPU targets are corrected as the CPU's", "[gpu]") {
  if (no_gpu()) return;
  const Eigen::Index k = 256, n = 96, tokens = 700;
  const MatrixF x = random_matrix(k, tokens, 1), moved = x + 0.1f * random_matrix(k, tokens, 2);
  const MatrixF residual = 0.2f * random_matrix(n, tokens, 3);
  const Statistics seen{x * x.transpose(), x * (moved - x).transpose(), x * residual.transpose()};
  const MatrixF weight = 0.05f * random_matrix(k, n, 4);
  QuantizerOptions options = options_for(32, ActOrder::fixed_groups);
  const MatrixF target =
      corrected_target(weight, seen.hessian, {seen.shift, seen.residual}, 0.5, options.damp);
  const QuantizedLinear cpu = gptq({target, &seen.hessian}, options);
  const GpuSolved gpu = solve_on_gpu(weight, seen, options, 0.5);
  REQUIRE(same_codes(gpu.linear.matrix, cpu.matrix) > 0.97);
  REQUIRE(near(gpu.linear.relative_loss, cpu.relative_loss, 1e-2));
  const double moved_by = (weight - dequantize(gpu.linear.matrix)).norm() / weight.norm();
  REQUIRE(near(gpu.weight_error, moved_by, 1e-5));
}

TEST_CASE("GPU: dead inputs, no inputs at all, and a Hessian that needs damping", "[gpu]") {
  if (no_gpu()) return;
  Layer layer = random_layer(256, 64, 31, 40);  // 40 tokens: of rank 40
  QuantizerOptions options = options_for(64, ActOrder::fixed_groups);
  options.damp = 0;
  const GpuSolved damped = solve_on_gpu(layer.weight, {layer.hessian, {}, {}}, options);
  REQUIRE(damped.linear.damp > 0);

  options.damp = 0.01;
  for (const Eigen::Index dead : {3, 64, 255})
    layer.hessian.row(dead).setZero(), layer.hessian.col(dead).setZero();
  const GpuSolved some = solve_on_gpu(layer.weight, {layer.hessian, {}, {}}, options);
  REQUIRE(dequantize(some.linear.matrix).row(64).isZero(0));

  const GpuSolved none = solve_on_gpu(layer.weight, {MatrixF::Zero(256, 256), {}, {}}, options);
  const QuantizedLinear nearest = rtn({layer.weight, nullptr}, options);
  REQUIRE(same_codes(none.linear.matrix, nearest.matrix) > 0.999);
}
