#pragma once
// Which part of a block's tile a thread multiplies.

#include <cstdint>

#include "kernels/hopper/traits.cuh"

namespace mpk {

template <class T>
struct WarpPlace {
  const int lane, warp;
  const int team, warp_of_team;
  /// Which 64 columns, and which of the warps that share their fragments.
  const int tile_of_warp, sharer;
  const int first_fragment = fragment_of_row(lane / 4);

  __device__ __forceinline__ explicit WarpPlace(int thread)
      : lane{thread % kWarpSize},
        warp{__shfl_sync(~0u, thread / kWarpSize, 0)},  // so that the compiler knows that all lanes agree
        team{warp / T::kTeamWarps},
        warp_of_team{warp % T::kTeamWarps},
        tile_of_warp{warp_of_team % T::kTilesN},
        sharer{warp_of_team / T::kTilesN} {}

  /// Rows of a warp's fragment, of 8, whose columns are neighbours.
  static constexpr int kRowsTogether = T::kFragments > 1 ? 8 : T::kBits == 4 ? 2 : 1;
  /// Which fragment of its tile of 64 columns the columns are in that row `row` and row + 8 of a warp's first
  /// fragment stand for. Words of one fragment alone are 16 bytes apart, or pairs of them 32, and would meet
  /// in a quarter of the banks: so warps that share a tile one by one have a fourth of every fragment. Which
  /// columns a row of wgmma stands for is free, as long as the four lanes that hold it agree.
  __device__ __forceinline__ int fragment_of_row(int row) const {
    if constexpr (T::kFragments == 1)
      return (sharer + row / kRowsTogether) % T::kFragmentsOfTile;
    else
      return sharer * T::kFragments;
  }
};

}  // namespace mpk
