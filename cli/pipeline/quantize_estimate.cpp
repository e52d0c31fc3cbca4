#include "cli/pipeline/quantize_estimate.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <omp.h>
#include <sys/resource.h>
#include <system_error>

#include "cli/pipeline/engine_rates.hpp"
#include "cli/pipeline/gpu_placement.hpp"
#include "cli/pipeline/gpu_solver.hpp"
#include "cli/pipeline/quantize_output.hpp"
#include "cli/pipeline/quantize_plan.hpp"
#include "model/linear_specs.hpp"
#include "packer/io/publish.hpp"
#include "packer/io/safetensors.hpp"
#include "packer/io/shard_plan.hpp"
#include "packer/tensor_parallel.hpp"
#include "quantizer/linalg/gemm.hpp"

namespace mpk {
namespace fs = std::filesystem;
namespace {

/// Of converting a checkpoint's tensors to float32; an assumption, not measured.
constexpr double kLoadBytesPerSecond = 1e9;
/// The program, its libraries, threads' stacks and what the allocator keeps.
constexpr std::uint64_t kProgramBytes = std::uint64_t{100} << 20;
/// CUDA's own on the host: seen on an H200.
constexpr std::uint64_t kCudaBytes = std::uint64_t{400} << 20;
constexpr int kAwqTrials = 40;  // quantizer/awq.cpp

/// Linears that read one input.
struct Group {
  double k = 0, n = 0;     ///< n: of all of them together
  double tokens = 1;       ///< the part of all tokens that it reads
  bool is_output = false;  ///< o or down: its product is added to the residual stream
  bool is_gate_up = false;
};

std::vector<Group> groups_of(const DecoderConfig& config, std::int64_t layer) {
  std::vector<Group> groups;
  for (const auto& linears : input_groups(config, layer)) {
    const LinearSpec& first = linears.front();
    Group group{.k = static_cast<double>(first.k.value),
                .is_output = first.role == LinearRole::o || first.role == LinearRole::down,
                .is_gate_up = first.role == LinearRole::gate};
    for (const LinearSpec& spec : linears) group.n += static_cast<double>(spec.n.value);
    if (first.expert >= 0)
      group.tokens =
          static_cast<double>(config.experts.per_token) / static_cast<double>(config.experts.count);
    groups.push_back(group);
  }
  return groups;
}

/// The best of some times: what else the machine does is not the work's.
template <class Work>
double seconds_of(Work work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 4; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

MatrixF noise(Eigen::Index rows, Eigen::Index cols) {
  MatrixF matrix(rows, cols);
  std::uint32_t state = 1;
  for (float& value : matrix.reshaped()) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
  }
  return matrix;
}

/// What this machine does in a second, for the work of this job.
class CpuRates final : public EngineRates {
 public:
  explicit CpuRates(const QuantizeJob& job) : job_{job} {
    constexpr Eigen::Index kSide = 1024, kTokens = 512;
    const MatrixF weight = noise(kSide, kSide), x = noise(kSide, kTokens);
    MatrixF y(kSide, kTokens), gram = MatrixF::Zero(kSide, kSide);
    constexpr double kProduct = 2.0 * kSide * kSide * kTokens;
    product_ = kProduct / seconds_of([&] { apply_linear(weight, x, y); });
    if (job.method->needs_hessian) gram_ = kProduct / 2 / seconds_of([&] { add_gram(x, gram); });
    measure_solver();
  }
  double product() const override { return product_; }
  double gram() const override { return gram_; }
  double solve(double k, double n) const override {
    double seconds = factor(k) + n * k * per_weight_ + n * k * k * per_pair_;
    const double square = 2 * k * k * n / product_;
    if (job_.corrects_targets()) seconds += factor(k) + 2 * square;
    if (job_.method->scales_inputs) seconds += kAwqTrials * (square + n * k * rounding_);
    return seconds;
  }

 private:
  /// Cholesky at half the rate of a product.
  double factor(double k) const { return job_.method->minimizes_error ? k * k * k / 3 / (product_ / 2) : 0; }

  double time_solver(const Method& method, Eigen::Index k, Eigen::Index n, QuantizerOptions options) const {
    const MatrixF x = noise(k, 2 * k), weight = noise(k, n);
    MatrixF hessian = MatrixF::Zero(k, k);
    if (method.needs_hessian) add_gram(x, hessian);
    options.scheme = job_.recipe.scheme;
    return seconds_of([&] { method.run({weight, method.needs_hessian ? &hessian : nullptr}, options); });
  }

  /// time - factor(k) = n k per_weight + n k^2 per_pair, from two sizes.
  void measure_solver() {
    constexpr double kSmall = 256, kLarge = 768;
    const Eigen::Index n = std::clamp(64 * omp_get_max_threads(), 128, 1024);
    const auto per_output = [&](double k) {
      const double seconds = time_solver(*job_.method, static_cast<Eigen::Index>(k), n, job_.options);
      return std::max(0.0, seconds - factor(k)) / (static_cast<double>(n) * k);
    };
    const double small = per_output(kSmall), large = per_output(kLarge);
    per_pair_ = std::max(0.0, (large - small) / (kLarge - kSmall));
    per_weight_ = std::max(0.0, small - per_pair_ * kSmall);
    if (!job_.method->scales_inputs) return;
    QuantizerOptions trial = job_.options;
    trial.ranges = Ranges::minmax;
    for (const Method& method : methods())
      if (!method.needs_hessian)
        rounding_ = time_solver(method, static_cast<Eigen::Index>(kLarge), n, trial) /
                    (kLarge * static_cast<double>(n));
  }

  const QuantizeJob& job_;
  double product_ = 0, gram_ = 1;  ///< floating-point operations per second
  double per_weight_ = 0, per_pair_ = 0, rounding_ = 0;
};

class Estimator {
 public:
  explicit Estimator(const QuantizeJob& job)
      : job_{job}, model_{open_float_model(job.source)}, plan_{plan_quantize(job, model_)} {
    if (is_there(output_path(job.destination))) throw already_there(job.destination);
    on_gpu_ =
        job.device != Device::cpu && job.method->needs_hessian && gpu_solver_refusal(job, model_).empty();
  }

  QuantizeEstimate operator()() {
    count_layers();
    count_bytes();
    if (on_gpu_)
      estimate_memory_beside_gpu();
    else
      estimate_.memory_bytes = memory();
    estimate_time();
    return std::move(estimate_);
  }

 private:
  double tokens() const { return static_cast<double>(job_.samples * job_.seq_len); }
  bool runs_model() const { return job_.method->needs_hessian && !job_.statistics; }

  void count_layers() {
    for (std::int64_t i = 0; i < model_.config.num_layers; ++i)
      for (const LinearSpec& spec : linear_specs(model_.config, i)) {
        const auto planned = plan_.layers.find(spec.module);
        QuantizeEstimate::Kind kind{std::string{last_component(spec.module)}, spec.k, spec.n, {}, 1};
        if (planned != plan_.layers.end()) kind.scheme = planned->second.scheme;
        const auto same = std::ranges::find_if(estimate_.kinds, [&](const QuantizeEstimate::Kind& other) {
          return other.kind == kind.kind && other.k == kind.k && other.n == kind.n &&
                 other.scheme == kind.scheme;
        });
        if (same == estimate_.kinds.end())
          estimate_.kinds.push_back(std::move(kind));
        else
          ++same->count;
      }
  }

  void count_bytes() {
    for (const SourceTensor& tensor : plan_.tensors) {
      const std::uint64_t bytes = tensor_bytes(tensor.dtype, tensor.shape);
      estimate_.source_bytes += bytes;
      if (tensor.fate != Fate::copied) continue;
      ++estimate_.other_tensors;
      estimate_.other_bytes += bytes;
    }
    std::uint64_t beside = 0;
    for (const std::string& file : model_.checkpoint.side_files())
      beside += fs::file_size(model_.checkpoint.directory() / file);
    for (const WeightFormat* format : job_.formats) {
      const std::vector<TensorSpec> specs = output_specs(*format, plan_);
      const std::vector<PlannedShard> shards = plan_shards(specs, job_.max_shard_bytes);
      QuantizeEstimate::Artifact artifact{format->name, 0, 0, std::ssize(shards)};
      for (const TensorSpec& spec : specs) artifact.tensor_bytes += tensor_bytes(spec.dtype, spec.shape);
      for (const PlannedShard& shard : shards) artifact.file_bytes += shard.size_bytes;
      estimate_.disk_bytes += artifact.file_bytes + beside;
      estimate_.artifacts.push_back(std::move(artifact));
    }
    std::error_code error;
    const auto space = fs::space(output_path(job_.destination).parent_path(), error);
    if (!error) estimate_.free_bytes = space.available;
  }

  /// The CPU engine's largest layer, activations and embeddings, and what waits to be written.
  std::uint64_t memory() const {
    const DecoderConfig& config = model_.config;
    const bool follows = job_.corrects_targets();
    double largest = 0;
    for (std::int64_t i = 0; i < config.num_layers; ++i) {
      double weights = 0, all_squares = 0, square = 0, solver = 0, source = 0;
      for (const Group& group : groups_of(config, i)) {
        const double own =
            group.k * group.k * (follows ? 2 : 1) + (follows && group.is_output ? group.k * group.n : 0);
        weights += group.k * group.n;
        all_squares += own;
        square = std::max(square, own);
        // A factor and copies of the Hessian and the weight in solve order.
        solver = std::max(solver,
                          (job_.method->minimizes_error ? 3 * group.k * group.k : 0) + 6 * group.k * group.n);
      }
      source = 2 * weights;  // pages of the checkpoint
      const bool copies_layer = follows && job_.true_sequential;
      double floats = weights * (copies_layer ? 2 : 1) + solver;
      if (job_.method->needs_hessian) floats += job_.true_sequential ? square : all_squares;
      largest = std::max(largest, 4 * floats + source);
    }
    double bytes = largest;
    if (runs_model()) {
      const auto hidden = static_cast<double>(config.hidden);
      const double streams = follows ? 2 : 1;
      const double heads = static_cast<double>(config.num_heads * config.head_dim);
      const double embeddings =
          4 * static_cast<double>(config.vocab) * hidden;  // gone before the layers come
      bytes += 4 * tokens() * streams * (hidden + (job_.true_sequential ? heads : 0));
      const std::int64_t windows = std::min(windows_per_chunk(config, job_.seq_len), job_.samples);
      const double temporaries = 3 * hidden + 4 * heads + 3 * static_cast<double>(config.intermediate);
      bytes += 4 * streams * static_cast<double>(windows * job_.seq_len) * temporaries;
      bytes = std::max(bytes, 1.5 * embeddings + 4 * tokens() * hidden);  // and their pages in the checkpoint
    }
    std::uint64_t codes = 0;
    for (const auto& [module, layer] : plan_.layers)
      codes += static_cast<std::uint64_t>(layer.k.value * layer.n.value);
    const std::uint64_t waiting = std::min<std::uint64_t>(QuantizeOutput::kWaitingBytes, 2 * codes);
    return static_cast<std::uint64_t>(bytes) + waiting + kProgramBytes;
  }

  /// Two layers of the checkpoint, what waits to be written, and the activations that find no room on the
  /// GPU.
  void estimate_memory_beside_gpu() {
    const GpuPlacement placement =
        place_on_gpu(model_.config, job_, gpu_compute_for(job_, model_), job_.samples * job_.seq_len,
                     job_.gpu_memory.value_or(kDefaultGpuMemory));
    estimate_.gpu_memory_bytes = static_cast<std::uint64_t>(placement.gpu_bytes);
    std::uint64_t layer = 0;
    for (const LinearSpec& spec : linear_specs(model_.config, 0))
      layer += static_cast<std::uint64_t>(spec.k.value * spec.n.value);
    estimate_.memory_bytes = kProgramBytes + kCudaBytes + 2 * 2 * layer + QuantizeOutput::kWaitingBytes +
                             static_cast<std::uint64_t>(placement.host_bytes);
  }

  void estimate_time() {
    const std::unique_ptr<EngineRates> measured =
        on_gpu_ ? make_gpu_rates(job_, gpu_compute_for(job_, model_)) : std::make_unique<CpuRates>(job_);
    const EngineRates& rates = *measured;
    const DecoderConfig& config = model_.config;
    QuantizeEstimate::Seconds& seconds = estimate_.seconds;
    const double streams = job_.corrects_targets() ? 2 : 1;
    for (std::int64_t i = 0; i < config.num_layers; ++i) {
      double layer = 0, down = 0, gate_up = 0, hessian = 0;
      for (const Group& group : groups_of(config, i)) {
        const double read = tokens() * group.tokens, flops = 2 * read * group.k * group.n;
        layer += flops;
        if (group.is_gate_up) gate_up += flops;
        if (group.is_output) down = flops;  // the last one is
        hessian += read * group.k * group.k;
        if (streams > 1) hessian += 2 * read * group.k * (group.k + (group.is_output ? group.n : 0));
      }
      const double attention = 4 * tokens() * static_cast<double>(job_.seq_len) *
                               static_cast<double>(config.num_heads * config.head_dim);
      layer += attention;
      if (!runs_model()) continue;
      estimate_.hessian_flops += hessian;
      // How often the tokens pass through how much of the layer (layer_calibration.cpp).
      double passes = layer;
      if (!job_.float_inputs) {
        passes = job_.true_sequential ? layer + gate_up : 2 * layer - down;
        passes += (streams - 1) * layer;
        if (job_.method->scales_inputs) passes += layer - down;
      }
      estimate_.forward_flops += passes;
    }
    // The GPU's layers are loaded while others are worked on.
    if (!on_gpu_) seconds.load = static_cast<double>(estimate_.source_bytes) / kLoadBytesPerSecond;
    seconds.forward = estimate_.forward_flops / rates.product();
    seconds.hessian = estimate_.hessian_flops / rates.gram();
    for (const auto& [module, planned] : plan_.layers)
      seconds.solve +=
          rates.solve(static_cast<double>(planned.k.value), static_cast<double>(planned.n.value));
  }

  const QuantizeJob& job_;
  OpenModel model_;
  SourcePlan plan_;
  bool on_gpu_ = false;
  QuantizeEstimate estimate_;
};

}  // namespace

QuantizeEstimate estimate_quantize(const QuantizeJob& job) {
  return Estimator{job}();
}

std::uint64_t peak_memory() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace mpk
