#include "cli/pipeline/gpu_solver.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <future>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "cli/pipeline/gpu_float.hpp"
#include "cli/pipeline/gpu_placement.hpp"
#include "cli/pipeline/timer.hpp"
#include "cli/pipeline/token_store.hpp"
#include "kernels/gpu.hpp"
#include "model/cuda/gpu_layer.hpp"
#include "model/cuda/steps.hpp"
#include "packer/format/error.hpp"
#include "quantizer/cuda/gpu_quantizer.hpp"
#include "quantizer/cuda/steps.hpp"

namespace mpk {
namespace {

/// The groups of linears that read a common input, in the order of the forward pass.
using Stage = LinearGroup::Stage;
constexpr std::array kStages{Stage::qkv, Stage::o, Stage::gate_up, Stage::down};
constexpr std::size_t position_of(Stage stage) {
  std::size_t position = 0;
  while (kStages[position] != stage) ++position;
  return position;
}
/// The outputs are added to the residual stream.
constexpr bool adds_to_residual(Stage stage) {
  return stage == Stage::o || stage == Stage::down;
}

// Columns of X X^T at a time: of the upper triangle little is computed.
constexpr std::int64_t kGramPanel = 2048;

/// Time on the GPU by purpose, added up where the host waits anyway.
class GpuClock {
 public:
  explicit GpuClock(const Stream& stream) : stream_{stream} {}
  /// Runs `work`, whose launches count towards `seconds`.
  template <class Work>
  void measure(double& seconds, Work&& work) {
    if (next_ == spans_.size()) spans_.emplace_back();
    Span& span = spans_[next_++];
    span.seconds = &seconds;
    span.begin.record(stream_);
    work();
    span.end.record(stream_);
  }
  /// Waits for the GPU.
  void settle() {
    stream_.wait();
    for (; next_ > 0; --next_) {
      const Span& span = spans_[next_ - 1];
      *span.seconds += span.end.milliseconds_since(span.begin) / 1e3;
    }
  }

 private:
  struct Span {
    Event begin, end;
    double* seconds = nullptr;
  };
  const Stream& stream_;
  std::deque<Span> spans_;
  std::size_t next_ = 0;
};

/// Sums over the calibration tokens for one group of linears, (K, K) and (N, K).
struct Sums {
  DeviceBuffer<float> hessian, shift, residual;

  void clear(const Stream& stream) {
    for (DeviceBuffer<float>* buffer : {&hessian, &shift, &residual})
      if (buffer->size() > 0) buffer->fill_bytes(0, stream);
  }
  GpuStatistics view() {
    return {hessian.data(), shift.size() > 0 ? shift.data() : nullptr,
            residual.size() > 0 ? residual.data() : nullptr};
  }
};

class GpuSolver final : public LayerSolver {
 public:
  explicit GpuSolver(const SolverInput& input)
      : input_{input},
        config_{input.model.config},
        length_{input.job.seq_len},
        tokens_{std::ssize(input.windows)},
        chunk_{std::min(gpu_chunk_tokens(length_), tokens_)},
        follows_float_{input.job.corrects_targets()},
        compute_{gpu_compute_for(input.job, input.model)},
        type_{gpu_float(compute_)},
        own_{config_, type_},
        next_{config_, type_} {
    if (follows_float_) float_.emplace(config_, type_);
    place_activations();
    embed();
    begin_loading(0);
  }
  ~GpuSolver() override {
    if (loading_.valid()) loading_.wait();
  }

  RewrittenNorms solve_layer(std::int64_t index, const Take& take) override {
    take_layer(index);
    if (input_.job.true_sequential)
      by_groups(take);
    else
      at_once(take);
    end_layer();
    return {};
  }

  void replay_layer(std::int64_t index, const std::vector<SolvedLinear>& linears,
                    const RewrittenNorms&) override {
    take_layer(index);
    if (!is_last()) {
      if (follows_float_)
        for_each_chunk(
            [&](std::int64_t begin, std::int64_t count) { forward(*float_, *float_stream_, begin, count); });
      for (const SolvedLinear& solved : linears) upload_decoded(solved);
      for_each_chunk(
          [&](std::int64_t begin, std::int64_t count) { forward(own_, *own_stream_, begin, count); });
    }
    end_layer();
  }

  bool has_state() const override { return true; }
  std::optional<double> residual_error() const override { return residual_error_; }
  std::string name() const override { return fmt::format("{}, {}", gpu_status().name, name_of(compute_)); }
  SolverSeconds seconds() const override { return seconds_; }
  std::uint64_t peak_gpu_bytes() const override { return gpu_memory_peak(); }

 private:
  /// The activations of one model, and what its layers are run with.
  struct ModelStream {
    GpuLayerStages stages;
    TokenStore x;      ///< (hidden, tokens) float32: the residual stream
    TokenStore heads;  ///< (num_heads * head_dim, tokens): input of o
  };

  // ---- memory

  void place_activations() {
    std::size_t free = 0, total = 0;
    MPK_CUDA(cudaMemGetInfo(&free, &total));
    const auto available = static_cast<std::int64_t>(free + gpu_memory_now());
    const GpuPlacement placement =
        place_on_gpu(config_, input_.job, compute_, tokens_,
                     std::min(input_.job.gpu_memory.value_or(kDefaultGpuMemory), available));
    const std::int64_t head_tokens = input_.job.true_sequential ? tokens_ : chunk_;
    own_stream_ = make_stream(placement.x, head_tokens, placement.heads);
    if (follows_float_) float_stream_ = make_stream(placement.float_x, head_tokens, placement.float_heads);
  }
  std::unique_ptr<ModelStream> make_stream(bool x_here, std::int64_t head_tokens, bool heads_here) {
    const std::int64_t state = config_.hidden * 4;
    const std::int64_t heads =
        config_.num_heads * config_.head_dim * static_cast<std::int64_t>(bytes_of(type_));
    return std::unique_ptr<ModelStream>{new ModelStream{{config_, blas_, type_, length_, chunk_},
                                                        {state, tokens_, chunk_, x_here, stream_},
                                                        {heads, head_tokens, chunk_, heads_here, stream_}}};
  }

  Sums make_sums(Stage group) {
    const GpuLinears& linears = linears_of(group);
    const std::int64_t k = linears.k.value;
    const auto size = static_cast<std::size_t>(k * k);
    Sums sums{DeviceBuffer<float>{size}, {}, {}};
    if (follows_float_) sums.shift = DeviceBuffer<float>{size};
    if (follows_float_ && adds_to_residual(group))
      sums.residual = DeviceBuffer<float>{static_cast<std::size_t>(linears.outputs() * k)};
    sums.clear(stream_);
    return sums;
  }

  // ---- weights

  void begin_loading(std::int64_t index) {
    if (index >= config_.num_layers) return;
    own_used_.record(stream_);
    loading_ = std::async(std::launch::async, [this, index] {
      own_used_.hold_up(uploader_.stream());
      std::vector<std::string> names;
      next_.load(
          config_, index,
          [&](const std::string& name) {
            names.push_back(name);
            return input_.model.checkpoint.tensor(name);
          },
          uploader_);
      uploader_.stream().wait();
      for (const std::string& name : names) input_.model.checkpoint.release(name);
    });
  }

  /// Layer `index` becomes own_ (and float_), and the one after it begins to load.
  void take_layer(std::int64_t index) {
    {
      Timer timer{seconds_.load};
      if (loading_.valid()) loading_.get();
      if (next_.index != index) {
        begin_loading(index);
        loading_.get();
      }
    }
    std::swap(own_, next_);
    if (follows_float_) float_->copy_from(own_, stream_);
    begin_loading(index + 1);
  }
  void end_layer() {
    clock_.settle();
    residual_error_.reset();
    if (!follows_float_ || is_last()) return;
    double apart = 0, whole = 0;
    for_each_chunk([&](std::int64_t begin, std::int64_t count) {
      gpu_steps::distance(
          config_.hidden * count, static_cast<const float*>(own_stream_->x.load(begin, count)),
          static_cast<const float*>(float_stream_->x.load(begin, count)), norms_.data(), stream_);
      const std::vector<double> parts = norms_.to_host(stream_);
      for (std::size_t i = 0; i < parts.size(); i += 2) apart += parts[i], whole += parts[i + 1];
    });
    if (whole > 0) residual_error_ = std::sqrt(apart / whole);
  }
  bool is_last() const { return own_.index + 1 == config_.num_layers; }

  GpuLinears& linears_of(Stage group) {
    switch (group) {
      case Stage::qkv:
        return own_.qkv;
      case Stage::o:
        return own_.o;
      case Stage::gate_up:
        return own_.gate_up;
      default:  // kStages has no other
        return own_.down;
    }
  }
  bool any_wanted(Stage group) {
    return std::ranges::any_of(linears_of(group).linears, [&](const GpuLinears::One& one) {
      return input_.plan.layers.contains(one.module);
    });
  }

  void upload_decoded(const SolvedLinear& solved) {
    for (const Stage group : kStages) {
      GpuLinears& linears = linears_of(group);
      for (std::size_t i = 0; i < linears.linears.size(); ++i) {
        if (linears.linears[i].module != solved.module) continue;
        const MatrixF decoded = dequantize(solved.result.matrix);
        decoded_.upload({DType::F32,
                         {decoded.cols(), decoded.rows()},
                         std::as_bytes(std::span{decoded.data(), static_cast<std::size_t>(decoded.size())})},
                        linears.weight_of(i, type_), type_);
        decoded_.stream().wait();
      }
    }
  }

  // ---- activations

  template <class Work>
  void for_each_chunk(Work work) const {
    for (std::int64_t begin = 0; begin < tokens_; begin += chunk_)
      work(begin, std::min(chunk_, tokens_ - begin));
  }

  void embed() {
    Timer timer{seconds_.load};
    GpuEmbeddings embeddings{config_,
                             [&](const std::string& name) { return input_.model.checkpoint.tensor(name); },
                             input_.windows};
    for_each_chunk([&](std::int64_t begin, std::int64_t count) {
      void* x = own_stream_->x.blank(begin);
      embeddings.upload(begin, count, uploader_, static_cast<float*>(x));
      uploader_.stream().wait();
      own_stream_->x.store(begin, count);
      if (follows_float_) {
        MPK_CUDA(cudaMemcpyAsync(float_stream_->x.blank(begin), x,
                                 static_cast<std::size_t>(count * config_.hidden) * 4,
                                 cudaMemcpyDeviceToDevice, stream_.get()));
        float_stream_->x.store(begin, count);
      }
      stream_.wait();
    });
    input_.model.checkpoint.release(config_.tensor_prefix + "embed_tokens.weight");
  }

  /// x <- layer(x) for one chunk.
  void forward(const GpuLayerWeights& layer, ModelStream& model, std::int64_t begin, std::int64_t count) {
    clock_.measure(seconds_.calibration.forward, [&] {
      auto* x = static_cast<float*>(model.x.load(begin, count));
      const std::int64_t heads_begin = input_.job.true_sequential ? begin : 0;
      void* heads = model.heads.blank(heads_begin);
      model.stages.forward(layer, count, heads, x);
      model.x.store(begin, count);
    });
  }
  /// What `group` reads of a chunk, as LayerStream::input; *x is the residual stream at that point.
  const void* input(Stage group, const GpuLayerWeights& layer, ModelStream& model, std::int64_t begin,
                    std::int64_t count, float*& x) {
    x = static_cast<float*>(model.x.load(begin, count));
    GpuLayerStages& stages = model.stages;
    switch (group) {
      case Stage::qkv:
        return stages.attention_input(layer, x, count);
      case Stage::o: {
        void* heads = model.heads.blank(begin);
        stages.attention(layer, stages.attention_input(layer, x, count), count, heads);
        model.heads.store(begin, count);
        return heads;
      }
      case Stage::gate_up:
        stages.add_attention(layer, model.heads.load(begin, count), count, x);
        model.x.store(begin, count);
        return stages.mlp_input(layer, x, count);
      default:  // down; computed again to finish the layer: keeping it would cost several times x
        return stages.activation(layer, stages.mlp_input(layer, x, count), count);
    }
  }

  /// Adds a chunk's inputs to a group's sums.
  void add(Stage group, const void* input, const void* float_input, const float* x, const float* float_x,
           std::int64_t count, Sums& sums) {
    clock_.measure(seconds_.calibration.hessian, [&] {
      const std::int64_t k = linears_of(group).k.value;
      const auto rows = [&](const void* data, std::int64_t first) {
        return ConstGpuMatrix{
            static_cast<const std::byte*>(data) + static_cast<std::size_t>(first) * bytes_of(type_), type_,
            k};
      };
      for (std::int64_t col = 0; col < k; col += kGramPanel) {
        const std::int64_t width = std::min(kGramPanel, k - col);
        blas_.gemm(GpuOp::none, GpuOp::transpose, k - col, width, count, 1, rows(input, col),
                   rows(input, col), 1, {sums.hessian.data() + col * (k + 1), GpuFloat::f32, k});
      }
      if (!float_input) return;
      const std::int64_t most =
          std::max(k, config_.hidden) * count * static_cast<std::int64_t>(bytes_of(type_));
      difference_.room(static_cast<std::size_t>(most));
      gpu_steps::subtract(k * count, float_input, input, difference_.data(), type_, stream_);
      blas_.gemm(GpuOp::none, GpuOp::transpose, k, k, count, 1, rows(input, 0), rows(difference_.data(), 0),
                 1, {sums.shift.data(), GpuFloat::f32, k});
      if (sums.residual.size() == 0) return;
      gpu_steps::subtract(config_.hidden * count, float_x, x, difference_.data(), type_, stream_);
      blas_.gemm(GpuOp::none, GpuOp::transpose, config_.hidden, k, count, 1,
                 {difference_.data(), type_, config_.hidden}, rows(input, 0), 1,
                 {sums.residual.data(), GpuFloat::f32, config_.hidden});
    });
  }

  void quantize_wanted(Stage group, Sums& sums, const Take& take) {
    if (!any_wanted(group)) return;
    clock_.settle();
    GpuLinears& linears = linears_of(group);
    const QuantizeJob& job = input_.job;
    {
      Timer timer{seconds_.solve};
      within("the inputs of module " + linears.linears.front().module,
             [&] { quantizer_.begin(linears.k, sums.view(), job.options); });
    }
    for (std::size_t i = 0; i < linears.linears.size(); ++i) {
      const auto planned = input_.plan.layers.find(linears.linears[i].module);
      if (planned == input_.plan.layers.end()) continue;
      take(within("module " + planned->first, [&] {
        Timer timer{seconds_.solve};
        QuantizerOptions options = job.options;
        options.scheme = planned->second.scheme;
        GpuSolved solved = quantizer_.solve(linears.weight_of(i, type_), type_, linears.linears[i].n, options,
                                            follows_float_ ? job.target_correction : 0);
        return SolvedLinear{planned->first, std::move(solved.linear), solved.weight_error};
      }));
    }
  }

  /// As LayerCalibration::by_groups.
  void by_groups(const Take& take) {
    for (const Stage group : kStages) {
      const bool wanted = any_wanted(group);
      std::optional<Sums> sums;
      if (wanted) sums = make_sums(group);
      for_each_chunk([&](std::int64_t begin, std::int64_t count) {
        const void *read = nullptr, *float_read = nullptr;
        float *x = nullptr, *float_x = nullptr;
        clock_.measure(seconds_.calibration.forward, [&] {
          read = input(group, own_, *own_stream_, begin, count, x);
          if (follows_float_) float_read = input(group, *float_, *float_stream_, begin, count, float_x);
        });
        if (wanted) add(group, read, float_read, x, float_x, count, *sums);
        if (group != Stage::down || !follows_float_ || is_last()) return;
        clock_.measure(seconds_.calibration.forward, [&] {
          float_stream_->stages.add_mlp(*float_, float_read, count, float_x);
          float_stream_->x.store(begin, count);
        });
      });
      if (wanted) quantize_wanted(group, *sums, take);
    }
    if (is_last()) return;
    for_each_chunk([&](std::int64_t begin, std::int64_t count) {
      clock_.measure(seconds_.calibration.forward, [&] {
        float* x = nullptr;
        const void* activated = input(Stage::down, own_, *own_stream_, begin, count, x);
        own_stream_->stages.add_mlp(own_, activated, count, x);
        own_stream_->x.store(begin, count);
      });
    });
  }

  /// As LayerCalibration::at_once: all sums from the layer as it is, then all its linears.
  void at_once(const Take& take) {
    std::vector<std::optional<Sums>> sums(kStages.size());
    for (std::size_t i = 0; i < kStages.size(); ++i)
      if (any_wanted(kStages[i])) sums[i] = make_sums(kStages[i]);
    state_.room(static_cast<std::size_t>(config_.hidden * chunk_));
    for_each_chunk([&](std::int64_t begin, std::int64_t count) { observe(begin, count, sums); });
    for (std::size_t i = 0; i < kStages.size(); ++i)
      if (sums[i]) {
        quantize_wanted(kStages[i], *sums[i], take);
        sums[i].reset();
      }
    if (is_last()) return;
    for_each_chunk(
        [&](std::int64_t begin, std::int64_t count) { forward(own_, *own_stream_, begin, count); });
  }

  /// One chunk through the float layer; x stays before it, float_x goes on.
  void observe(std::int64_t begin, std::int64_t count, std::vector<std::optional<Sums>>& sums) {
    ModelStream& own = *own_stream_;
    float* x = state_.data();
    float* float_x = nullptr;
    const void *read = nullptr, *float_read = nullptr;
    const auto see = [&](Stage group) {
      if (auto& sum = sums[position_of(group)]) add(group, read, float_read, x, float_x, count, *sum);
    };
    const auto step = [&](auto work) { clock_.measure(seconds_.calibration.forward, work); };
    const auto both = [&](auto work) {
      step([&] {
        read = work(own.stages, own, x, read);
        if (follows_float_) float_read = work(float_stream_->stages, *float_stream_, float_x, float_read);
      });
    };
    step([&] {
      MPK_CUDA(cudaMemcpyAsync(x, own.x.load(begin, count),
                               static_cast<std::size_t>(config_.hidden * count) * 4, cudaMemcpyDeviceToDevice,
                               stream_.get()));
      if (follows_float_) float_x = static_cast<float*>(float_stream_->x.load(begin, count));
    });
    both([&](GpuLayerStages& s, ModelStream&, float* state, const void*) {
      return s.attention_input(own_, state, count);
    });
    see(Stage::qkv);
    both([&](GpuLayerStages& s, ModelStream& model, float*, const void* in) -> const void* {
      void* heads = model.heads.blank(0);
      s.attention(own_, in, count, heads);
      return heads;
    });
    see(Stage::o);
    both([&](GpuLayerStages& s, ModelStream&, float* state, const void* in) {
      s.add_attention(own_, in, count, state);
      return s.mlp_input(own_, state, count);
    });
    see(Stage::gate_up);
    both([&](GpuLayerStages& s, ModelStream&, float*, const void* in) {
      return s.activation(own_, in, count);
    });
    see(Stage::down);
    if (!follows_float_ || is_last()) return;
    step([&] {
      float_stream_->stages.add_mlp(own_, float_read, count, float_x);
      float_stream_->x.store(begin, count);
    });
  }

  const SolverInput input_;
  const DecoderConfig& config_;
  const std::int64_t length_, tokens_, chunk_;
  const bool follows_float_;
  const GpuCompute compute_;
  const GpuFloat type_;
  Stream stream_;
  Blas blas_{stream_};
  GpuClock clock_{stream_};
  GpuQuantizer quantizer_{blas_};
  Uploader uploader_, decoded_;
  GpuLayerWeights own_, next_;            ///< next_ belongs to the loading thread while it runs
  std::optional<GpuLayerWeights> float_;  ///< own_ as it was
  std::unique_ptr<ModelStream> own_stream_, float_stream_;
  DeviceBuffer<std::byte> difference_;
  DeviceBuffer<float> state_;  ///< (hidden, chunk): x on its way through the layer as it is
  DeviceBuffer<double> norms_{2 * gpu_steps::kDotParts};
  std::optional<double> residual_error_;
  Event own_used_;
  std::future<void> loading_;
  SolverSeconds seconds_;
};

}  // namespace

std::string gpu_solver_refusal(const QuantizeJob& job, const OpenModel& model) {
  if (!gpu_status().usable) return gpu_status().reason;
  if (job.float_inputs)
    return "Hessians of the float model's inputs, or from --stats, are solved on the CPU only";
  if (!job.method->minimizes_error || job.method->scales_inputs)
    return fmt::format("method {} runs on the CPU only", job.method->name);
  if (std::string reason = gpu_refusal(model.config); !reason.empty()) return reason;
  try {
    gpu_compute_for(job, model);
  } catch (const Error& error) {
    return error.what();
  }
  static const std::string missing = [] {  // asked twice a run: for the estimate and for the engine
    try {
      const Stream stream;
      const Blas blas{stream};
      const GpuQuantizer quantizer{blas};
    } catch (const Error& error) {
      return std::string{error.what()};
    }
    return std::string{};
  }();
  return missing;
}

std::unique_ptr<LayerSolver> make_gpu_solver(const SolverInput& input) {
  return std::make_unique<GpuSolver>(input);
}

}  // namespace mpk
