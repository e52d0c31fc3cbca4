#pragma once
// out (M, N) = activations (M, K) * weights (K, N), the weights packed as FORMAT.md "marlin" says.
//
// Roundings, all of them:
//   weights   code - bias is exact. Grouped: times the scale, one product per weight, rounded to float16, to
//             nearest even. One scale per column: not scaled here.
//   products  activation * weight: exact (11 x 11 bits).
//   sums      mma.sync, float32 accumulators, 16 products an instruction. What the tensor core does inside is
//             undocumented beyond single precision; measured chips align the addends to the largest and cut.
//   partials  the warps of a block, then the blocks of a tile: float32 additions in a fixed order.
//   output    One scale per column: float32 product with it. Then float16, to nearest even.
// The same call on the same GPU gives the same bits. error_bound.hpp turns this list into a bound.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "kernels/partition.hpp"
#include "packer/format/scalar_type.hpp"
#include "packer/format/units.hpp"

struct CUstream_st;

namespace mpk {

using GpuStream = CUstream_st*;  ///< cudaStream_t, without the CUDA headers

/// What a packed layer is, apart from its bytes.
struct LayerShape {
  ScalarType type;
  std::optional<GroupSize> group_size;
  K k;
  N n;

  /// A group as long as K is one scale per column, and stored so.
  bool grouped() const { return group_size && group_size->value < k.value; }
  int groups() const { return grouped() ? static_cast<int>((k / *group_size).value) : 1; }
  std::size_t num_words() const {
    return static_cast<std::size_t>(k.value) * static_cast<std::size_t>(n.value) /
           static_cast<std::size_t>(type.pack_factor());
  }
  std::size_t num_scales() const {
    return static_cast<std::size_t>(groups()) * static_cast<std::size_t>(n.value);
  }
};

/// The kernels in this build, one line each.
std::string gemm_table();

/// Throws Error{unsupported}, with the table, if no kernel handles such a layer (whatever M is).
void require_gemm(const LayerShape& layer);

/// Everything decided before a launch. Depends on nothing but its arguments.
struct GemmPlan {
  LayerShape layer;
  M m;
  int variant;  ///< row of the table
  Partition partition;
  std::size_t
      counter_bytes;  ///< head of the workspace: zero before the first launch, left zero by every launch
  std::size_t workspace_bytes;  ///< all of it; 16-byte aligned
};
GemmPlan plan_gemm(const LayerShape& layer, M m, int num_sms);

/// Device memory. `activations`, `words` and `scales` are 16-byte aligned, as cudaMalloc gives it.
struct GemmBuffers {
  const std::uint16_t* activations;  ///< (M, K) row-major float16
  const std::uint32_t* words;
  const std::uint16_t* scales;  ///< (groups, N) float16, permuted
  std::uint16_t* out;           ///< (M, N) row-major float16
  void* workspace;
};
/// Launches and returns; allocates nothing. A workspace serves one plan, one launch after the other.
void gemm(const GemmPlan& plan, const GemmBuffers& buffers, GpuStream stream);

/// Empty if this build holds machine code for the current GPU, else why not.
std::string gemm_code_missing();

}  // namespace mpk
