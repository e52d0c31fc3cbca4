#pragma once
// A row of the table of mma.sync kernels. The rows are compiled in several files, by what they need of a GPU.

#include <optional>
#include <span>

#include "kernels/family.hpp"
#include "kernels/mma_sync/gemm_kernel.cuh"

namespace mpk {

struct MmaSyncVariant {
  Weight weight;
  std::optional<Activation8> activations8;
  Float activations;
  Tile tile;
  int threads, blocks_per_sm, smem_bytes, slot_bytes, step_k;
  void (*kernel)(GemmArgs);

  template <class T>
  static constexpr MmaSyncVariant of() {
    std::optional<Activation8> activations8;
    if constexpr (T::kActivationBytes == 1) activations8 = T::kActivations8;
    constexpr int kSlotBytes = T::kSlotChunks * kChunkBytes;
    return {T::kWeight,      activations8,  T::kFloat,  T::kTile,  T::kThreads,
            T::kBlocksPerSm, T::kSmemBytes, kSlotBytes, T::kStepK, gemm_kernel<T>};
  }
};

/// For activations of 8 bits. Of one kind, the tile with fewer rows comes first.
std::span<const MmaSyncVariant> int8_variants();
std::span<const MmaSyncVariant> fp8_variants();  ///< compute capability 8.9 and newer

// clang-format off
template <Activation8 kActivations>
struct MmaSyncVariants8 {
  template <Weight kWeight, Float kFloat>
  static constexpr auto of() {
    if constexpr (bits_of(kWeight) == 4)
      //                                                          tile m    n    k   warps along m, stages, blocks per SM
      return std::array{
          MmaSyncVariant::of<GemmTraits8<kActivations, kWeight, kFloat,  16, 128, 256,  1, 3, 2>>(),
          MmaSyncVariant::of<GemmTraits8<kActivations, kWeight, kFloat,  64, 256, 128,  2, 3, 1>>()};
    else
      return std::array{
          MmaSyncVariant::of<GemmTraits8<kActivations, kWeight, kFloat,  32, 128, 128,  2, 3, 2>>(),
          MmaSyncVariant::of<GemmTraits8<kActivations, kWeight, kFloat, 128, 128, 128,  4, 3, 1>>()};
  }
};
// clang-format on

}  // namespace mpk
