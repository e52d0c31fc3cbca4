#pragma once
// Hopper's copy engine: one instruction of one thread moves a box of a matrix into shared memory and reports
// to an mbarrier.

#include <cstdint>

#include <cuda.h>

namespace mpk {

/// True in one thread of the warp, all of whose threads ask. Copies that are started where this was asked
/// take one instruction; elsewhere the compiler makes a loop over all threads that might be there of each,
/// which takes longer than a small copy.
__device__ __forceinline__ bool is_elected() {
  std::uint32_t elected;
  asm volatile("{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p; }" : "=r"(elected));
  return elected != 0;
}

/// How the L2 cache shall treat what is read: weights pass through once, activations are read by many blocks.
__device__ __forceinline__ std::uint64_t evict_first() {
  std::uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ std::uint64_t evict_last() {
  std::uint64_t policy;
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

/// The box of `map` whose first element is (column, row). What lies outside the matrix arrives as zeros, and
/// counts as bytes.
__device__ __forceinline__ void bulk_copy_box(std::uint32_t shared, const CUtensorMap& map, int column,
                                              int row, std::uint32_t barrier, std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
      "[%1, {%2, %3}], [%4], %5;" ::"r"(shared),
      "l"(&map), "r"(column), "r"(row), "r"(barrier), "l"(policy)
      : "memory");
}

}  // namespace mpk
