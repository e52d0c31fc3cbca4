#pragma once
// Blocks that run together and read each other's shared memory.

#include <cstdint>

namespace mpk {

/// All threads of all blocks of the cluster that have not ended meet: what they wrote before they arrived is
/// seen by all who have waited.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/// Four floats from where `shared` stands in block `block` of the cluster.
__device__ __forceinline__ float4 load_remote(std::uint32_t shared, int block) {
  float4 out;
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];\n"
      "}\n"
      : "=f"(out.x), "=f"(out.y), "=f"(out.z), "=f"(out.w)
      : "r"(shared), "r"(block)
      : "memory");
  return out;
}

}  // namespace mpk
