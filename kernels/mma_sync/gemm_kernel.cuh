#pragma once
// One thread block of the GEMM. It walks its stripe of the work (partition.hpp) with a ring of k-stages in
// shared memory: while one stage is multiplied, the next kStages - 1 are on their way.

#include <cstdint>
#include <type_traits>

#include "kernels/device/cp_async.cuh"
#include "kernels/mma_sync/multiply16.cuh"
#include "kernels/mma_sync/multiply8.cuh"
#include "kernels/mma_sync/stage_loader.cuh"
#include "kernels/mma_sync/tile_sums.cuh"

namespace mpk {

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocksPerSm)
    gemm_kernel(const __grid_constant__ GemmArgs args) {
  extern __shared__ uint4 smem[];
  const Partition& p = args.partition;
  const int begin = p.begin(blockIdx.x), end = p.end(blockIdx.x);
  const std::uint32_t ring = shared_address(smem);
  StageLoader<T> load{args, ring, begin, end};
  TileSums<T> sums{args, smem};
  std::conditional_t<T::kActivationBytes == 1, Multiplier8<T>, Multiplier16<T>> multiplier{sums};
#pragma unroll 1
  for (int slot = 0; slot < T::kStages - 1; ++slot) load.next(slot);

  Cursor at{p, begin};
  int slot = 0;
#pragma unroll 1
  for (int left = end - begin; left > 0;) {
    multiplier.begin_tile();
    const int stop = min(p.stages_per_tile, at.stage + left);
    left -= stop - at.stage;
#pragma unroll 1
    for (; at.stage < stop; ++at.stage) {
      cp_async_wait<T::kStages - 2>();
      __syncthreads();  // this stage is there for all, and nobody still reads the one before it
      load.next(slot == 0 ? T::kStages - 1 : slot - 1);
      multiplier.multiply_stage(ring + slot * (T::kStageChunks * kChunkBytes), at.stage * T::kSteps);
      slot = slot + 1 == T::kStages ? 0 : slot + 1;
    }
    multiplier.end_tile();
    sums.finish_tile(at);
    at.next_tile(p);
  }
}

}  // namespace mpk
