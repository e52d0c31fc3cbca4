#pragma once
// out (M, N) = activations (M, K) * weights (K, N) [+ bias], the weights packed as FORMAT.md "marlin" says,
// or "marlin-a8" where activations have 8 bits: row m of the product is then multiplied by row_scales[m],
// too.
//
// Two families of kernels: mma.sync for compute capability 8.0 and newer, hopper for 9.0. Roundings, all of
// them (F is the type of the activations, f16 or bf16):
//   weights   what a code stands for is exact in F, but for u4fz: there code - zero point is rounded to F.
//             With groups the kernel multiplies it by the scale, one product per weight, rounded to F, or
//             leaves that to the sums of a group (below). One scale per column: not scaled here.
//   products  activation * weight: exact in float32.
//   sums      tensor cores, float32 accumulators, 16 products an instruction. What the tensor core does
//   inside is
//             undocumented beyond single precision; measured chips align the addends to the largest and cut.
//   groups    where scales are left to the sums: one float32 fused multiply-add per group.
//   8 bits    weights and products are exact, and scales are left to the sums. INT8: sums are exact 32-bit
//             integers, of a group or of all that a block adds up of a column, then rounded to float32. FP8:
//             measured chips keep 14 bits where they align and cut, so that no more than kChain8 products are
//             summed before the sum goes to a float32 one, by a fused multiply-add.
//   partials  the warps of a block, then the blocks of a tile: float32 additions in a fixed order.
//   output    One scale per column, a global scale, the scale of a row: float32 products. Bias: a float32
//             addition. Then F, to nearest even.
// The same call on the same GPU gives the same bits. error_bound.hpp turns this list into a bound.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/partition.hpp"
#include "kernels/weight.hpp"
#include "packer/format/units.hpp"

struct CUstream_st;

namespace mpk {

using GpuStream = CUstream_st*;  ///< cudaStream_t, without the CUDA headers

/// What a packed layer is, apart from its bytes.
struct LayerShape {
  Weight weight = Weight::u4b8;
  std::optional<GroupSize> group_size;
  K k;
  N n;
  Float activations = Float::f16;  ///< type of activations, outputs, 16-bit scales, bias
  bool act_order = false;          ///< rows are stored sorted by group; `perm` says where each came from
  /// Activations have 8 bits, each row a scale; `activations` is the type of all the rest.
  std::optional<Activation8> activations8 = {};

  /// A group as long as K is one scale per column, and stored so; scales of a byte have one order only.
  bool grouped() const { return group_size && (is_fp4(weight) || group_size->value < k.value); }
  int groups() const { return grouped() ? static_cast<int>((k / *group_size).value) : 1; }
  std::size_t num_words() const {
    return static_cast<std::size_t>(k.value) * static_cast<std::size_t>(n.value) /
           static_cast<std::size_t>(32 / bits_of(weight));
  }
  std::size_t num_scales() const {
    return static_cast<std::size_t>(groups()) * static_cast<std::size_t>(n.value);
  }
  std::size_t num_zero_words() const {
    return num_scales() * static_cast<std::size_t>(zero_bits(weight)) / 32;
  }
};

/// Products of a column that are summed with FP8's precision, at most.
inline constexpr int kChain8 = 128;
/// From this compute capability on tensor cores multiply FP8.
inline constexpr int kFp8Capability = 89;
/// "f16", or "int8 to f16": what comes in, and what goes out where that is not the same.
inline std::string activations_text(std::optional<Activation8> activations8, Float activations) {
  return activations8 ? std::string{name_of(*activations8)} + " to " + name_of(activations)
                      : name_of(activations);
}

/// What planning must know of a GPU.
struct GpuTraits {
  int capability = 0;  ///< 90 for 9.0
  int num_sms = 0;
  static constexpr int kMaxCluster = 8, kMaxBlocksPerSm = 2;
  /// How many clusters of so many blocks run at the same time; 0 where unknown.
  using Clusters = std::array<int, kMaxCluster + 1>;
  std::array<Clusters, kMaxBlocksPerSm> clusters{};  ///< where a multiprocessor holds one block, where two
};

enum class GemmFamily { mma_sync, hopper };
constexpr const char* name_of(GemmFamily f) {
  return f == GemmFamily::hopper ? "hopper" : "mma.sync";
}

/// The kernels in this build, one line each.
std::string gemm_table();

/// Throws Error{unsupported}, with the table, if no kernel of any GPU handles such a layer (whatever M is).
void require_gemm(const LayerShape& layer);

/// Everything decided before a launch. Depends on nothing but its arguments.
struct GemmPlan {
  LayerShape layer;
  M m;
  GemmFamily family;
  int variant;  ///< row of the family's table
  Partition partition;
  double expected_us;  ///< what the choice was made by; 0 if there was nothing to choose
  std::size_t
      counter_bytes;  ///< head of the workspace: zero before the first launch, left zero by every launch
  std::size_t gathered_at;      ///< where the activations go in stored order, if the layer has act_order
  std::size_t workspace_bytes;  ///< all of it; 16-byte aligned
};
/// `family`: nullopt takes the fastest that `gpu` runs. Throws Error{unsupported} with the table if there is
/// none.
GemmPlan plan_gemm(const LayerShape& layer, M m, const GpuTraits& gpu,
                   std::optional<GemmFamily> family = std::nullopt);
/// Every way that plan_gemm() chooses from, the one that it expects to be the fastest first.
std::vector<GemmPlan> gemm_plans(const LayerShape& layer, M m, const GpuTraits& gpu,
                                 std::optional<GemmFamily> family = std::nullopt);
/// "hopper u4b8 f16, tile 16 x 256 x 128, 16 tiles in 8 parts on 128 blocks".
std::string describe(const GemmPlan& plan);

/// Device memory, each 16-byte aligned, as cudaMalloc gives it. Scales and biases are permuted as FORMAT.md
/// says. Kernels of the same stream may start before the one in front of them has ended and then read words,
/// scales, zero points and bias ahead of its end: these must not be outputs of that kernel. Activations may.
struct GemmBuffers {
  const void* activations = nullptr;  ///< (M, K) row-major, 16 or 8 bits each
  const float* row_scales = nullptr;  ///< (M); activations of 8 bits only
  const std::uint32_t* words = nullptr;
  const void* scales = nullptr;                ///< (groups, N), 16 bits each, or 8 (nvfp4, mxfp4)
  const std::uint32_t* zero_points = nullptr;  ///< (groups, N / 8) words; u4fz: (groups, N / 2)
  const std::int32_t* perm = nullptr;          ///< (K); act_order only
  const std::uint16_t* bias = nullptr;         ///< (N), or null
  float global_scale = 1.0f;                   ///< nvfp4 only
  std::uint16_t* out = nullptr;                ///< (M, N) row-major
  void* workspace = nullptr;
};
/// Launches and returns; allocates nothing. A workspace serves one plan, one launch after the other.
void gemm(const GemmPlan& plan, const GemmBuffers& buffers, GpuStream stream);

/// The GPU that is current. Throws Error{device}.
GpuTraits current_gpu_traits();

/// Empty if this build holds machine code for the current GPU, else why not.
std::string gemm_code_missing();

}  // namespace mpk
