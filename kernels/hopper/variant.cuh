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
  int threads, smem_bytes, slot_bytes, step_k, box_row_bytes;
  void (*kernel)(HopperArgs);

  template <class T>
  static constexpr HopperVariant of() {
    std::optional<Activation8> activations8;
    if constexpr (T::kActivationBytes == 1) activations8 = T::kActivations8;
    const model::StageTimes times =
        model::stage_times(activations8, T::kFloat, T::kWeight, T::kTileM, T::kBlockN);
    const HopperTile tile{T::kBits,   T::kTileM, T::kBlockN,  T::kTileK,           T::kBlocksPerSm,
                          T::kStages, T::kPush,  times.alone, times.beside_another};
    return {T::kWeight,      activations8,         T::kFloat,          tile,
            T::kThreads,     T::kSmemBytes,        T::kSlotFloats * 4, T::kStepK,
            T::kBoxRowBytes, hopper_gemm_kernel<T>};
  }
};

/// For activations of 16 bits, and of 8.
std::span<const HopperVariant> hopper_f16_variants();
std::span<const HopperVariant> hopper_bf16_variants();
std::span<const HopperVariant> hopper_int8_variants();
std::span<const HopperVariant> hopper_fp8_variants();

// One kind of weights and activations. Numbers: tile m, n, k; stages of the ring; (who multiplies;) fragments
// of a warp, warpgroups, blocks of a multiprocessor; buffers of decoded fragments.
template <Float kFloat>
struct HopperVariants16 {
  template <Weight kWeight, int kTileM, int kBlockN, int kTileK, int kStages, By kBy, int... kNumbers>
  static constexpr HopperVariant row() {
    return HopperVariant::of<
        HopperTraits<kWeight, kFloat, kTileM, kBlockN, kTileK, kStages, kBy, kNumbers...>>();
  }
  template <Weight kWeight>
  static constexpr auto of() {
    constexpr auto warps = By::warps, groups = By::warpgroups;
    constexpr Weight w = kWeight;
    constexpr int kGroupsOf256 = is_fp4(kWeight) ? 3 : 2, kFragmentsOf8 = is_fp4(kWeight) ? 4 : 2;
    if constexpr (bits_of(kWeight) == 8)
      return std::array{
          row<w, 8, 64, 64, 16, warps, 4, 2, 2, 1>(),    row<w, 8, 128, 64, 9, warps, 4, 2, 2, 1>(),
          row<w, 16, 64, 64, 13, warps, 4, 2, 2, 1>(),   row<w, 16, 128, 64, 8, warps, 4, 2, 2, 1>(),
          row<w, 32, 64, 64, 12, groups, 1, 4, 1, 2>(),  row<w, 32, 128, 64, 8, groups, 2, 4, 1, 2>(),
          row<w, 32, 256, 64, 6, groups, 4, 2, 1, 2>(),  row<w, 64, 64, 64, 10, groups, 1, 4, 1, 2>(),
          row<w, 64, 128, 64, 8, groups, 1, 4, 1, 2>(),  row<w, 128, 128, 64, 6, groups, 1, 4, 1, 2>(),
          row<w, 128, 256, 64, 4, groups, 1, 4, 1, 2>(), row<w, 256, 128, 64, 4, groups, 1, 2, 1, 2>()};
    else
      return std::array{row<w, 8, 64, 128, 14, warps, kFragmentsOf8, 2, 2, 1>(),
                        row<w, 8, 128, 128, 8, warps, kFragmentsOf8, 2, 2, 1>(),
                        row<w, 16, 64, 128, 11, warps, 2, 2, 2, 1>(),
                        row<w, 16, 128, 128, 7, warps, 4, 2, 2, 1>(),
                        row<w, 16, 256, 128, 6, groups, 4, kGroupsOf256, 1, 2>(),
                        row<w, 32, 64, 128, 12, groups, 1, 4, 1, 2>(),
                        row<w, 32, 128, 128, 8, groups, 2, 4, 1, 2>(),
                        row<w, 32, 256, 128, 6, groups, 4, kGroupsOf256, 1, 2>(),
                        row<w, 64, 64, 128, 8, groups, 1, 4, 1, 2>(),
                        row<w, 64, 128, 128, 6, groups, 1, 4, 1, 2>(),
                        row<w, 128, 128, 128, 4, groups, 1, 4, 1, 2>(),
                        row<w, 128, 256, 128, 4, groups, 1, 4, 1, 2>(),
                        row<w, 256, 128, 64, 4, groups, 1, 2, 1, 2>()};
  }
  static constexpr auto of_all() {
    constexpr auto all = join(of<Weight::u4b8>(), of<Weight::u4>(), of<Weight::u4_float_zeros>(),
                              of<Weight::u8b128>(), of<Weight::e4m3>(), of<Weight::nvfp4>());
    if constexpr (kFloat == Float::bf16)
      return join(all, of<Weight::mxfp4>());
    else
      return all;
  }
};

template <Activation8 kActivations>
struct HopperVariants8 {
  template <Weight kWeight, Float kFloat, int... kNumbers>
  static constexpr HopperVariant row() {
    return HopperVariant::of<HopperTraits8<kActivations, kWeight, kFloat, kNumbers...>>();
  }
  template <Weight kWeight, Float kFloat>
  static constexpr auto of() {
    constexpr Weight w = kWeight;
    constexpr Float f = kFloat;
    if constexpr (bits_of(kWeight) == 4)
      return std::array{row<w, f, 16, 128, 128, 6, 2, 2, 2, 1>(), row<w, f, 16, 256, 128, 4, 4, 2, 2, 1>(),
                        row<w, f, 32, 128, 128, 8, 2, 2, 1, 2>(), row<w, f, 32, 256, 128, 8, 4, 2, 1, 2>(),
                        row<w, f, 64, 128, 128, 8, 2, 2, 1, 2>(), row<w, f, 64, 256, 128, 6, 2, 2, 1, 2>()};
    else
      return std::array{row<w, f, 16, 128, 128, 4, 2, 2, 2, 1>(), row<w, f, 16, 256, 128, 4, 4, 2, 1, 1>(),
                        row<w, f, 32, 128, 128, 6, 2, 2, 1, 2>(), row<w, f, 32, 256, 128, 4, 4, 2, 1, 2>(),
                        row<w, f, 64, 128, 128, 6, 2, 2, 1, 2>(), row<w, f, 64, 256, 128, 4, 2, 2, 1, 2>()};
  }
};

}  // namespace mpk
