#pragma once
// Blocks that run together and read each other's shared memory.

#include <cstdint>

namespace mpk {

/// All threads of all blocks of the cluster meet here; what they wrote before is seen by all after.
__device__ __forceinline__ void cluster_sync() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
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
