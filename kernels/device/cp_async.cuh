#pragma once
// cp.async: 16 bytes from global to shared memory without passing through registers, counted in groups.

#include <cstdint>

namespace mpk {

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Through the L2 cache only, which is asked for the whole line of 128 bytes. Writes zeros if not `inside`:
/// `global` is not read then.
__device__ __forceinline__ void cp_async(std::uint32_t shared, const void* global, bool inside) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
               "r"(inside ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Returns when all but the newest `kPending` groups of this thread have landed.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// 16 bytes back, from where a copy left them.
__device__ __forceinline__ uint4 load_shared(std::uint32_t shared) {
  uint4 out;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(out.x), "=r"(out.y), "=r"(out.z), "=r"(out.w)
               : "r"(shared)
               : "memory");
  return out;
}

}  // namespace mpk
