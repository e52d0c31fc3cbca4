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
#include "kernels/hopper/tile_finisher.cuh"
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
  RingSlot<T::kStages> slot;  // of the next stage that this team takes,
  int skipped = sums.team;    // so many stages on
  slot.advance(skipped);
  for (UnitCursor at{p}; at.more();) {
    const int tile = at.tile, stages = at.end - at.stage;
    multiplier.begin_tile();
    if (T::kPush && in_cluster(p, tile)) cluster_arrive();  // from now on the others may push
    const auto begin_stage = [&] {
      memory.wait_for_stage(slot.index, slot.parity);
      multiplier.begin_stage(slot.index);
    };
    if (skipped < stages) begin_stage();
    int pending = -1;
#pragma unroll 1
    while (skipped < stages) {
      const int index = slot.index;
      slot.advance(T::kTeams);
      skipped += T::kTeams;
      multiplier.multiply(index, pending, [&] {
        if (skipped < stages) begin_stage();
      });
    }
    skipped -= stages;
    multiplier.end_tile();
    memory.release(pending, sums.lane);
    wait_for_earlier_kernels();  // nobody still uses the outputs or the workspace
    at.next_tile(p);
    TileFinisher<T>{args, memory, sums.acc, thread_asked_anew()}.finish(tile, !at.more());
  }
}

/// The copying warpgroup gives registers to those that multiply. compute-sanitizer's racecheck cannot follow
/// that: MARLIN_PACK_RACECHECK leaves it out, and the kernels keep in memory what then has no register.
#ifdef MPK_REGISTERS_STAY
inline constexpr bool kRegistersMove = false;
#else
inline constexpr bool kRegistersMove = true;
#endif

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocksPerSm)
    hopper_gemm_kernel(const __grid_constant__ HopperArgs args) {
  extern __shared__ __align__(1024) std::uint8_t shared[];  // as the swizzle of copies and wgmma takes it
  const HopperMemory<T> memory{shared_address(shared), args.no_bits};
  const StageCopier<T> copier{args, memory};
  let_next_kernel_start();
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x / kWarpSize), 0);
  if (warp == T::kConsumers / kWarpSize && is_elected()) copier.start();
  __syncthreads();
  if (threadIdx.x >= T::kConsumers) {
    if constexpr (kRegistersMove)
      asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(T::kCopierRegisters));
    if (warp == T::kConsumers / kWarpSize && is_elected()) copier.run();
  } else {
    if constexpr (kRegistersMove)
      asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(T::kConsumerRegisters));
    multiply_tiles<T>(args, memory);
  }
}

}  // namespace mpk
