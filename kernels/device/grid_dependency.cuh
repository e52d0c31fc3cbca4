#pragma once
// Kernels that start before the one in front of them in the stream has ended.

namespace mpk {

/// Everything that earlier kernels of the stream wrote is there, and nothing of theirs runs any more, when
/// this returns.
__device__ __forceinline__ void wait_for_earlier_kernels() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}
/// The next kernel of the stream may start as soon as it finds room.
__device__ __forceinline__ void let_next_kernel_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

}  // namespace mpk
