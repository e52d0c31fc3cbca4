#pragma once
// A row of the table of Hopper kernels. The rows are compiled in several files, so that it takes less time.

#include <optional>
#include <span>

#include "kernels/family.hpp"
#include "kernels/hopper/gemm_kernel.cuh"
#include "kernels/hopper/plan.hpp"

namespace mpk {

struct HopperVariant {
  Weight weight;
  std::optional<Activation8> activations8;
  Float activations;
  HopperTile tile;
  int threads, smem_bytes, slot_bytes, step_k;
  void (*kernel)(HopperArgs);

  template <class T>
  static constexpr HopperVariant of() {
    std::optional<Activation8> activations8;
    if constexpr (T::kActivationBytes == 1) activations8 = T::kActivations8;
    // Of activations of 8 bits not measured: fewer instructions a weight, but scales for every group's sums.
    constexpr double kDecode = T::kActivationBytes == 1 ? 1.0 : model::decode(T::kWeight, T::kFloat);
    constexpr HopperTile kTile{T::kBits,        T::kTileM, T::kBlockN, T::kTileK,
                               T::kBlocksPerSm, T::kPush,  kDecode};
    return {T::kWeight,           activations8,  T::kFloat,          kTile,
            T::kThreads,          T::kSmemBytes, T::kSlotFloats * 4, T::kStepK,
            hopper_gemm_kernel<T>};
  }
};

/// For activations of 8 bits.
std::span<const HopperVariant> hopper_int8_variants();
std::span<const HopperVariant> hopper_fp8_variants();

// Tile m, k; stages of the ring; what warpgroups share, how many there are, blocks of a multiprocessor;
// buffers of decoded fragments.
template <Activation8 kActivations>
struct HopperVariants8 {
  template <Weight kWeight, Float kFloat>
  static constexpr auto of() {
    if constexpr (bits_of(kWeight) == 4)
      return std::array{
          HopperVariant::of<
              HopperTraits8<kActivations, kWeight, kFloat, 16, 128, 4, Share::stages, 2, 2, 1>>(),
          HopperVariant::of<
              HopperTraits8<kActivations, kWeight, kFloat, 32, 128, 8, Share::stages, 2, 1, 2>>(),
          HopperVariant::of<
              HopperTraits8<kActivations, kWeight, kFloat, 64, 128, 6, Share::fragments, 2, 1, 2>>()};
    else
      return std::array{
          HopperVariant::of<
              HopperTraits8<kActivations, kWeight, kFloat, 16, 128, 4, Share::stages, 2, 1, 1>>(),
          HopperVariant::of<
              HopperTraits8<kActivations, kWeight, kFloat, 32, 128, 4, Share::stages, 2, 1, 2>>(),
          HopperVariant::of<
              HopperTraits8<kActivations, kWeight, kFloat, 64, 128, 4, Share::fragments, 2, 1, 2>>()};
  }
};

}  // namespace mpk
