#include "quantizer/cuda/gpu_quantizer.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "gpu/cholesky.hpp"
#include "gpu/downloader.hpp"
#include "packer/format/error.hpp"
#include "quantizer/checks.hpp"
#include "quantizer/cuda/steps.hpp"
#include "quantizer/hessian.hpp"
#include "quantizer/ranges.hpp"
#include "quantizer/rounding.hpp"

namespace mpk {
namespace {

using namespace gpu_steps;

// Inputs between two products that reach to the front: an error matrix of this width keeps the tensor cores
// busy, one of kBlock the memory.
constexpr std::int64_t kPanel = 1024;

/// Sizes here are signed, as indices are.
template <class T>
T* room(DeviceBuffer<T>& buffer, std::int64_t size) {
  return buffer.room(static_cast<std::size_t>(size));
}

template <class T>
void upload(DeviceBuffer<T>& buffer, std::span<const T> host, const Stream& stream) {
  MPK_CUDA(cudaMemcpyAsync(room(buffer, std::ssize(host)), host.data(), host.size_bytes(),
                           cudaMemcpyHostToDevice, stream.get()));
  stream.wait();  // the host memory may go
}

template <class T>
std::vector<T> download(const T* data, std::int64_t size, const Stream& stream) {
  std::vector<T> host(static_cast<std::size_t>(size));
  MPK_CUDA(cudaMemcpyAsync(host.data(), data, host.size() * sizeof(T), cudaMemcpyDeviceToHost, stream.get()));
  stream.wait();
  return host;
}

CodeSpace code_space(const Scheme& scheme) {
  return {static_cast<float>(scheme.type.max_code()), static_cast<float>(scheme.type.bias),
          scheme.zero_points == ZeroPoints::integer,  scheme.scale_dtype == DType::F16,
          smallest_scale(scheme.scale_dtype),         largest_scale(scheme.scale_dtype)};
}

ConstGpuMatrix floats(const float* data, std::int64_t ld) {
  return {data, GpuFloat::f32, ld};
}
GpuMatrix floats(float* data, std::int64_t ld) {
  return {data, GpuFloat::f32, ld};
}

}  // namespace

struct GpuQuantizer::Impl {
  const Blas& blas;
  const Stream& stream;
  GpuCholesky cholesky;
  Downloader downloader;

  // Of the inputs taken up by begin().
  std::int64_t k = 0;
  GpuStatistics seen;
  double damp = 0, added = 0;
  bool nothing_seen = false;  ///< no token came by: all inputs count alike
  DeviceBuffer<float> diagonal, importance, factor;
  DeviceBuffer<std::int32_t> order;  ///< column in solve order -> input

  DeviceBuffer<float> target, work, step, change, scales, zeros, factors, group;
  DeviceBuffer<std::uint8_t> codes, moved_codes;
  DeviceBuffer<double> loss, partial;
  DeviceBuffer<std::uint32_t> too_large{1};

  explicit Impl(const Blas& b) : blas{b}, stream{b.stream()}, cholesky{b.stream()} {}

  void begin(K inputs, const GpuStatistics& statistics, const QuantizerOptions& options) {
    k = inputs.value;
    seen = statistics;
    mirror_lower(k, seen.hessian, stream);
    gpu_steps::diagonal(k, seen.hessian, room(diagonal, k), stream);
    const std::vector<float> host = download(diagonal.data(), k, stream);
    for (std::int64_t i = 0; i < k; ++i)
      if (!std::isfinite(host[static_cast<std::size_t>(i)]))
        throw Error{ErrorKind::bad_input,
                    fmt::format("the Hessian (a sum over calibration tokens) is {} at input {}",
                                host[static_cast<std::size_t>(i)], i)};
    nothing_seen = std::ranges::all_of(host, [](float value) { return value == 0; });

    std::vector<std::int32_t> positions(host.size());  // position -> input, as act_order.hpp
    std::iota(positions.begin(), positions.end(), 0);
    if (options.act_order == ActOrder::fixed_groups)
      std::ranges::stable_sort(positions, [&](std::int32_t a, std::int32_t b) {
        return host[static_cast<std::size_t>(a)] > host[static_cast<std::size_t>(b)];
      });
    std::ranges::reverse(positions);
    upload<std::int32_t>(order, positions, stream);

    const double mean =
        std::accumulate(host.begin(), host.end(), 0.0) / static_cast<double>(std::max<std::int64_t>(k, 1));
    if (options.ranges == Ranges::hessian && mean > 0) {
      std::vector<float> counts = host;
      for (float& count : counts) count /= static_cast<float>(mean);
      upload<float>(importance, counts, stream);
    } else {
      importance = {};
    }
    room(factor, k * k);
    if (nothing_seen) {
      damp = added = 0;
      gather_lower(k, seen.hessian, order.data(), 1, 0, factor.data(), stream);  // the unit matrix
      return;
    }
    for (damp = options.damp;; damp = raised_damp(damp, mean)) {
      added = damp * mean;
      gather_lower(k, seen.hessian, order.data(), static_cast<float>(mean), static_cast<float>(added),
                   factor.data(), stream);
      if (cholesky.factor(k, factor.data())) return;
    }
  }

  /// sum a .* b
  double dot_of(const float* a, const float* b, std::int64_t size) {
    dot(size, a, b, room(partial, kDotParts), stream);
    const std::vector<double> parts = download(partial.data(), kDotParts, stream);
    return std::accumulate(parts.begin(), parts.end(), 0.0);
  }

  /// target += strength * (residual + target shift^T) (L L^T)^-1, in storage order.
  void correct_target(std::int64_t n, double strength) {
    float* sum = room(work, n * k);
    if (seen.residual)
      MPK_CUDA(cudaMemcpyAsync(sum, seen.residual, static_cast<std::size_t>(n * k) * sizeof(float),
                               cudaMemcpyDeviceToDevice, stream.get()));
    blas.gemm(GpuOp::none, GpuOp::transpose, n, k, k, 1, floats(target.data(), n), floats(seen.shift, k),
              seen.residual ? 1.0f : 0.0f, floats(sum, n), Precision::tensor_cores);
    gather_columns(n, k, sum, order.data(), room(step, n * k), stream);
    blas.solve_right(GpuOp::transpose, n, k, factor.data(), k, step.data(), n);
    blas.solve_right(GpuOp::none, n, k, factor.data(), k, step.data(), n);
    add_scattered(n, k, step.data(), order.data(), static_cast<float>(strength), target.data(), stream);
  }

  void search(std::int64_t n, std::int64_t groups, std::int64_t first_group, const float* weight,
              const QuantizerOptions& options, const GroupRanges& ranges) {
    const float* counts = importance.size() > 0 && !nothing_seen ? importance.data() : nullptr;
    if (counts) counts += first_group * ranges.rows_per_group;
    find_ranges(n, groups, first_group, weight, counts, factors.data(), static_cast<int>(factors.size()),
                code_space(options.scheme), ranges, too_large.data(), stream);
  }

  /// Codes, and errors in place of the weights in `work`, block after block from the last column on.
  void solve_blocks(SolveState& state, bool searches, const QuantizerOptions& options) {
    const std::int64_t width =
        searches ? std::min<std::int64_t>(kBlock, state.ranges.rows_per_group) : kBlock;
    float* pull = target.data();
    for (std::int64_t panel_end = k; panel_end > 0;
         panel_end = std::max<std::int64_t>(0, panel_end - kPanel)) {
      const std::int64_t panel = std::max<std::int64_t>(0, panel_end - kPanel);
      for (std::int64_t end = panel_end; end > panel; end = std::max(panel, end - width)) {
        const std::int64_t begin = std::max(panel, end - width);
        if (searches) {
          corrected_block(state, begin, end, room(group, state.n * width), stream);
          search(state.n, 1, (k - end) / state.ranges.rows_per_group, group.data(), options, state.ranges);
        }
        solve_block(state, begin, end, stream);
        if (begin > panel) add_pull(state, begin, end, panel, begin, pull);
      }
      if (panel > 0) add_pull(state, panel, panel_end, 0, panel, pull);
    }
  }
  /// What the errors of columns [begin, end) do to columns [to, to_end). A pull only decides which level is
  /// nearest, so 11 bits of each factor are plenty.
  void add_pull(const SolveState& state, std::int64_t begin, std::int64_t end, std::int64_t to,
                std::int64_t to_end, float* pull) {
    blas.gemm(GpuOp::none, GpuOp::none, state.n, to_end - to, end - begin, 1,
              floats(state.weights + begin * state.n, state.n), floats(state.factor + begin + to * k, k), 1,
              floats(pull + to * state.n, state.n), Precision::tensor_cores);
  }

  /// Sweeps; state.error stays up to date, the gradient nearly so.
  void descend(const DescentState& state, float* gradient, int sweeps) {
    room(change, state.n * std::min(kPanel, k));
    const bool whole_groups = state.ranges.rows_per_group <= kBlock;
    const std::int64_t width =
        whole_groups ? kBlock / state.ranges.rows_per_group * state.ranges.rows_per_group : kBlock;
    for (int sweep = 0; sweep < sweeps; ++sweep) {
      if (!whole_groups && state.ranges.rows_per_group == k) {
        float* levels = room(step, state.n * k);
        load_levels(state.n, k, state.codes, state.space, state.ranges, levels, stream);
        multiply_by_hessian(state.n, levels, gradient);
        refit_columns(state, levels, gradient, stream);
        multiply_by_hessian(state.n, state.error, gradient);
      }
      for (std::int64_t panel = 0; panel < k; panel += kPanel) {
        const std::int64_t panel_end = std::min(panel + kPanel, k);
        for (std::int64_t begin = panel; begin < panel_end; begin += width) {
          const std::int64_t end = std::min(begin + width, panel_end);
          descend_block(state, begin, end, whole_groups, change.data() + (begin - panel) * state.n, stream);
          move_gradient(state, panel, begin, end, panel, panel_end, gradient);
        }
        move_gradient(state, panel, panel, panel_end, 0, panel, gradient);
        move_gradient(state, panel, panel, panel_end, panel_end, k, gradient);
      }
    }
  }
  /// What the changes of columns [begin, end) do to the gradient of columns [to, to_end). Like a pull, a
  /// gradient only decides which level is nearest.
  void move_gradient(const DescentState& state, std::int64_t panel, std::int64_t begin, std::int64_t end,
                     std::int64_t to, std::int64_t to_end, float* gradient) {
    blas.gemm(GpuOp::none, GpuOp::none, state.n, to_end - to, end - begin, 1,
              floats(std::as_const(change).data() + (begin - panel) * state.n, state.n),
              floats(seen.hessian + begin + to * k, k), 1, floats(gradient + to * state.n, state.n),
              Precision::tensor_cores);
  }
  void multiply_by_hessian(std::int64_t n, const float* rows, float* out,
                           Precision precision = Precision::full) {
    blas.gemm(GpuOp::none, GpuOp::none, n, k, k, 1, floats(rows, n), floats(seen.hessian, k), 0,
              floats(out, n), precision);
  }

  GpuSolved solve(void* weight, GpuFloat type, N outputs, const QuantizerOptions& options,
                  double correction) {
    const Scheme& scheme = options.scheme;
    check_scheme(scheme, K{k});
    const bool searches = options.act_order == ActOrder::none && scheme.group_size;
    if (searches && kBlock % scheme.group_size->value != 0)
      throw Error{ErrorKind::unsupported,
                  fmt::format("groups of {} without act-order: the GPU solver has 32, 64 and 128; take "
                              "--act-order static or --device cpu",
                              scheme.group_size->value)};
    const std::int64_t n = outputs.value, groups = scheme.groups(K{k}).value, size = n * k;
    const CodeSpace space = code_space(scheme);
    const GroupRanges ranges{room(scales, n * groups), space.stored_zeros ? room(zeros, n * groups) : nullptr,
                             scheme.rows_per_group(K{k})};
    upload<float>(factors, candidate_factors(options), stream);
    too_large.fill_bytes(0, stream);

    load_weight(n, k, weight, type, room(target, size), stream);
    if (correction > 0 && seen.shift && !nothing_seen) correct_target(n, correction);
    if (!nothing_seen) clear_dead(n, k, diagonal.data(), target.data(), stream);
    room(work, size);
    double energy = 0;
    if (nothing_seen) {
      energy = dot_of(target.data(), target.data(), size);
    } else {
      multiply_by_hessian(n, target.data(), work.data(), Precision::tensor_cores);
      energy = dot_of(target.data(), work.data(), size);
    }

    if (!searches) search(n, groups, 0, target.data(), options, ranges);
    gather_columns(n, k, target.data(), order.data(), work.data(), stream);
    target.fill_bytes(0, stream);  // from now on the pulls
    room(loss, n);
    loss.fill_bytes(0, stream);
    SolveState state{n,
                     k,
                     work.data(),
                     target.data(),
                     factor.data(),
                     static_cast<float>(added),
                     order.data(),
                     ranges,
                     space,
                     room(codes, size),
                     loss.data()};
    solve_blocks(state, searches, options);
    double lost = 0;
    for (const double value : download(loss.data(), n, stream)) lost += value;

    // From now on target holds the errors, work their gradient, both in storage order.
    scatter_columns(n, k, work.data(), order.data(), -1, target.data(), codes.data(), room(moved_codes, size),
                    stream);
    if (options.descent_sweeps > 0 && !nothing_seen) {
      multiply_by_hessian(n, target.data(), work.data());
      const DescentState descent{
          n,      k,     seen.hessian,      static_cast<float>(added), work.data(), target.data(),
          ranges, space, moved_codes.data()};
      descend(descent, work.data(), options.descent_sweeps);
      multiply_by_hessian(n, target.data(), work.data());  // for the loss every bit counts
      lost = dot_of(target.data(), work.data(), size);
    }
    transpose_codes(n, k, moved_codes.data(), codes.data(), stream);
    decode_over(n, k, codes.data(), space, ranges, weight, type,
                room(partial, std::max<std::int64_t>(2 * n, kDotParts)), stream);
    return collect(outputs, scheme, space, ranges, lost, energy);
  }

  GpuSolved collect(N outputs, const Scheme& scheme, const CodeSpace& space, const GroupRanges& ranges,
                    double lost, double energy) {
    const std::int64_t n = outputs.value, groups = scheme.groups(K{k}).value;
    GpuSolved result;
    QuantizedMatrix& q = result.linear.matrix;
    q = make_matrix(scheme, K{k}, outputs);
    downloader.copy(codes.data(),
                    std::as_writable_bytes(std::span{q.codes.data(), static_cast<std::size_t>(n * k)}),
                    stream);
    const std::vector<float> scales_host = download(ranges.scales, n * groups, stream);
    q.scales = Eigen::Map<const MatrixF>(scales_host.data(), n, groups).transpose();
    if (space.stored_zeros) {
      const std::vector<float> zeros_host = download(ranges.zeros, n * groups, stream);
      q.zero_points =
          Eigen::Map<const MatrixF>(zeros_host.data(), n, groups).transpose().cast<std::int16_t>();
    }
    const std::vector<double> norms = download(partial.data(), 2 * n, stream);
    double changed = 0, whole = 0;
    for (std::size_t i = 0; i < norms.size(); i += 2) changed += norms[i], whole += norms[i + 1];
    if (!std::isfinite(whole))
      throw Error{ErrorKind::bad_input, "the weight has an infinite or undefined element"};
    result.weight_error = whole > 0 ? std::sqrt(changed / whole) : 0;
    const float asked = std::bit_cast<float>(too_large.to_host(stream).front());
    if (asked != 0)
      throw Error{ErrorKind::unsupported,
                  fmt::format("weights ask for a scale of {}, past {}, the largest {}{}", asked,
                              space.largest, info(scheme.scale_dtype).name,
                              scheme.scale_dtype == DType::F16 ? "; BF16 scales can hold it" : "")};
    result.linear.relative_loss = loss_ratio(std::max(lost, 0.0), energy);
    result.linear.damp = damp;
    return result;
  }
};

GpuQuantizer::GpuQuantizer(const Blas& blas) : impl_{std::make_unique<Impl>(blas)} {}
GpuQuantizer::~GpuQuantizer() = default;
void GpuQuantizer::begin(K k, const GpuStatistics& seen, const QuantizerOptions& options) {
  impl_->begin(k, seen, options);
}
GpuSolved GpuQuantizer::solve(void* weight, GpuFloat type, N n, const QuantizerOptions& options,
                              double correction) {
  return impl_->solve(weight, type, n, options, correction);
}

}  // namespace mpk
