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
__device__ __forceinline__ uint2 load_shared2(std::uint32_t shared) {
  uint2 out;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(out.x), "=r"(out.y) : "r"(shared) : "memory");
  return out;
}
__device__ __forceinline__ std::uint32_t load_shared_word(std::uint32_t shared) {
  std::uint32_t out;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(out) : "r"(shared) : "memory");
  return out;
}
__device__ __forceinline__ float4 load_shared_floats(std::uint32_t shared) {
  const uint4 v = load_shared(shared);
  return {__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w)};
}
__device__ __forceinline__ void store_shared_word(std::uint32_t shared, std::uint32_t value) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(shared), "r"(value) : "memory");
}
/// The low half.
__device__ __forceinline__ void store_shared_half(std::uint32_t shared, std::uint32_t value) {
  asm volatile("st.shared.u16 [%0], %1;" ::"r"(shared), "h"(static_cast<std::uint16_t>(value)) : "memory");
}
__device__ __forceinline__ void store_shared(std::uint32_t shared, float4 value) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(shared), "f"(value.x), "f"(value.y),
               "f"(value.z), "f"(value.w)
               : "memory");
}

}  // namespace mpk
