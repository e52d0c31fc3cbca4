#pragma once
// Blocks that run together and read each other's shared memory.

#include <cstdint>

namespace mpk {

/// All threads of all blocks of the cluster that have not ended meet. Says nothing of what was written (beside
/// barrier_init_fence()): that takes a fence between.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/// What this thread wrote, and what others of its block wrote before they met with it, is seen by whoever waits
/// for its next arrival. It takes half a microsecond, the more so if all threads do it.
__device__ __forceinline__ void cluster_release() {
  asm volatile("fence.acq_rel.cluster;" ::: "memory");
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

/// Which block of its cluster this is.
__device__ __forceinline__ int cluster_rank() {
  int rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
/// Four floats to where `shared` stands in block `block` of the cluster, whose barrier, where `barrier`
/// stands, counts their bytes when they are there.
__device__ __forceinline__ void push_remote(std::uint32_t shared, std::uint32_t barrier, int block, float4 v) {
  asm volatile(
      "{\n"
      ".reg .b32 there, counter;\n"
      "mapa.shared::cluster.u32 there, %0, %2;\n"
      "mapa.shared::cluster.u32 counter, %1, %2;\n"
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [there], {%3, %4, %5, %6}, "
      "[counter];\n"
      "}\n" ::"r"(shared),
      "r"(barrier), "r"(block), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
      : "memory");
}

}  // namespace mpk
