#include "cli/pipeline/gpu_placement.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "model/cuda/chunk.hpp"
#include "model/linear_specs.hpp"
#include "packer/format/error.hpp"

namespace mpk {
namespace {

// The CUDA context, the libraries' code and workspaces: seen on an H200 beside what is allocated.
constexpr std::int64_t kOverheadBytes = std::int64_t{900} << 20;

/// A group of linears that read one input.
struct Group {
  std::int64_t k, n, largest_n;  ///< n: of all its linears together
  bool is_output;                ///< added to the residual stream
};

class Placing {
 public:
  Placing(const DecoderConfig& config, const QuantizeJob& job, GpuCompute compute, std::int64_t tokens)
      : config_{config},
        job_{job},
        tokens_{tokens},
        chunk_{std::min(gpu_chunk_tokens(job.seq_len), tokens)},
        element_{compute == GpuCompute::float32 ? 4 : 2},
        models_{job.corrects_targets() ? 2 : 1},
        heads_rows_{config.num_heads * config.head_dim},
        kv_rows_{config.num_kv_heads * config.head_dim} {}

  GpuPlacement operator()(std::int64_t budget) const {
    const std::int64_t state = config_.hidden * 4, heads = heads_rows_ * element_;
    GpuPlacement placement;
    placement.fixed_bytes =
        kOverheadBytes + weights() + to_solve() + stages() + models_ * (state + heads) * chunk_;
    if (placement.fixed_bytes > budget)
      throw Error{
          ErrorKind::device,
          fmt::format("quantizing this model on the GPU takes {:.1f} GB even with the activations in host "
                      "memory; --gpu-memory (or what is free) is {:.1f} GB. Allow more, or take --device cpu",
                      gigabytes(placement.fixed_bytes), gigabytes(budget))};
    placement.gpu_bytes = placement.fixed_bytes;
    const auto place = [&](std::int64_t bytes_per_token) {
      const std::int64_t more = bytes_per_token * (tokens_ - chunk_);
      const bool fits = placement.gpu_bytes + more <= budget;
      (fits ? placement.gpu_bytes : placement.host_bytes) += fits ? more : bytes_per_token * tokens_;
      return fits;
    };
    const bool keeps_heads = job_.true_sequential;  // else they live as long as a chunk
    placement.x = place(state);
    placement.heads = !keeps_heads || place(heads);
    placement.float_x = models_ > 1 && place(state);
    placement.float_heads = models_ > 1 && (!keeps_heads || place(heads));
    if (job_.host_memory && placement.host_bytes > *job_.host_memory)
      throw Error{
          ErrorKind::device,
          fmt::format(
              "{:.1f} GB of activations do not fit into the GPU's budget of {:.1f} GB and are more than "
              "--host-memory ({:.1f} GB) allows: raise one of them, or take fewer --samples",
              gigabytes(placement.host_bytes), gigabytes(budget), gigabytes(*job_.host_memory))};
    return placement;
  }

 private:
  static double gigabytes(std::int64_t bytes) { return static_cast<double>(bytes) / 1e9; }

  std::array<Group, 4> groups() const {
    return {{{config_.hidden, heads_rows_ + 2 * kv_rows_, heads_rows_, false},
             {heads_rows_, config_.hidden, config_.hidden, true},
             {config_.hidden, 2 * config_.intermediate, config_.intermediate, false},
             {config_.intermediate, config_.hidden, config_.hidden, true}}};
  }
  /// The layer, the next one and, if the float model is followed, the layer as it was.
  std::int64_t weights() const {
    std::int64_t layer = 0;
    for (const Group& group : groups()) layer += group.k * group.n * element_;
    return (1 + models_) * layer;
  }
  /// The sums of all groups (or of the largest, if they take turns), and what the solver allocates.
  std::int64_t to_solve() const {
    std::int64_t all = 0, most = 0, solver = 0;
    for (const Group& group : groups()) {
      std::int64_t sums = group.k * group.k;
      if (models_ > 1) sums += group.k * group.k + (group.is_output ? group.n * group.k : 0);
      all += sums;
      most = std::max(most, sums);
      // Factor; weights, their errors and a third of them; codes twice.
      const std::int64_t size = group.largest_n * group.k;
      solver = std::max(solver, 4 * (group.k * group.k + 3 * size) + 2 * size);
    }
    const std::int64_t difference =
        models_ > 1 ? chunk_ * std::max(config_.hidden, config_.intermediate) * element_ : 0;
    return 4 * (job_.true_sequential ? most : all) + solver + difference;
  }
  std::int64_t stages() const {
    return models_ * chunk_ * element_ * (3 * config_.hidden + 4 * heads_rows_ + 3 * config_.intermediate);
  }

  const DecoderConfig& config_;
  const QuantizeJob& job_;
  const std::int64_t tokens_, chunk_, element_, models_, heads_rows_, kv_rows_;
};

}  // namespace

GpuCompute gpu_compute_for(const QuantizeJob& job, const OpenModel& model) {
  bool any_f16 = false, any_bf16 = false, any_other = false;
  for (std::int64_t layer = 0; layer < model.config.num_layers; ++layer)
    for (const LinearSpec& spec : linear_specs(model.config, layer)) {
      const DType dtype = model.checkpoint.tensor(spec.module + ".weight").dtype;
      (dtype == DType::F16 ? any_f16 : dtype == DType::BF16 ? any_bf16 : any_other) = true;
    }
  const GpuCompute exact = any_other || (any_f16 && any_bf16) ? GpuCompute::float32
                           : any_f16                          ? GpuCompute::float16
                                                              : GpuCompute::bfloat16;
  const GpuCompute chosen = job.gpu_compute.value_or(exact);
  if (chosen != exact && chosen != GpuCompute::float32)
    throw Error{ErrorKind::unsupported,
                fmt::format("--gpu-compute {} would round the checkpoint's weights; {} or float32 holds them",
                            name_of(chosen), name_of(exact))};
  return chosen;
}

GpuPlacement place_on_gpu(const DecoderConfig& config, const QuantizeJob& job, GpuCompute compute,
                          std::int64_t tokens, std::int64_t budget) {
  return Placing{config, job, compute, tokens}(budget);
}

}  // namespace mpk
