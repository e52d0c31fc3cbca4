#pragma once
// The GEMM on Hopper. Bulk copies bring boxes of packed weights as they lie in memory, of activations and of
// scales, stage after stage of a ring that keeps filling across tile borders; one thread starts them. The
// other warps decode weights in registers, where Marlin's words are A fragments of wgmma and of mma.sync (the
// GEMM's N is the instruction's M), and multiply them by the activations in shared memory. Blocks walk
// stripes of the work (partition.hpp).

#include <cstdint>
#include <type_traits>

#include "kernels/device/cp_async.cuh"
#include "kernels/device/grid_dependency.cuh"
#include "kernels/device/mbarrier.cuh"
#include "kernels/device/wgmma.cuh"
#include "kernels/hopper/multiply16.cuh"
#include "kernels/hopper/multiply16_by_warps.cuh"
#include "kernels/hopper/multiply8.cuh"
#include "kernels/hopper/stage_copier.cuh"
#include "kernels/hopper/tile_sums.cuh"

namespace mpk {

template <class T>
using MultiplierOf =
    std::conditional_t<T::kActivationBytes == 1, WgmmaMultiplier8<T>,
                       std::conditional_t<T::kByWarps, WarpMultiplier16<T>, WgmmaMultiplier16<T>>>;

/// The threads that multiply: ring -> accumulators -> global memory.
template <class T>
__device__ __forceinline__ void multiply_tiles(const HopperArgs& args, const HopperMemory<T>& memory) {
  const Partition& p = args.partition;
  HopperSums<T> sums{args, memory};
  MultiplierOf<T> multiplier{sums};
  RingSlot<T::kStages> slot;
  bool first = true;
  int turn = 0;  // the team whose stage it is
  for (UnitCursor at{p}; at.more(); at.next_tile(p)) {
    multiplier.begin_tile();
    sums.begin_tile(at.tile);
    int pending = -1;
#pragma unroll 1
    for (; at.stage < at.end; ++at.stage, slot.next()) {
      if constexpr (T::kShareStages) {
        const bool mine = turn == sums.team;
        turn = turn + 1 == T::kTeams ? 0 : turn + 1;
        if (!mine) continue;
      }
      barrier_wait(memory.full(slot.index), slot.parity);
      multiplier.multiply(slot.index, pending);
    }
    multiplier.end_tile();
    memory.release(pending, sums.lane);
    if (first) wait_for_earlier_kernels();  // nobody still uses the outputs or the workspace
    first = false;
    sums.finish_tile(at.tile);
  }
}

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocksPerSm)
    hopper_gemm_kernel(const __grid_constant__ HopperArgs args) {
  extern __shared__ __align__(1024) std::uint8_t shared[];  // as the swizzle of copies and wgmma takes it
  const HopperMemory<T> memory{shared_address(shared)};
  const StageCopier<T> copier{args, memory};
  let_next_kernel_start();
  if (threadIdx.x == T::kConsumers) copier.start();
  __syncthreads();
  if (threadIdx.x >= T::kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(T::kCopierRegisters));
    if (threadIdx.x == T::kConsumers) copier.run();
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(T::kConsumerRegisters));
    multiply_tiles<T>(args, memory);
  }
}

}  // namespace mpk
