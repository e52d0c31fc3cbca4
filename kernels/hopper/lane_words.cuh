#pragma once
// The packed words that a lane reads of a stage.

#include <cstdint>

#include "kernels/device/cp_async.cuh"

namespace mpk {

template <int kCount>
struct LaneWords {
  std::uint32_t of[kCount];
  __device__ __forceinline__ void set(int i, uint4 v) {
    of[i] = v.x, of[i + 1] = v.y, of[i + 2] = v.z, of[i + 3] = v.w;
  }
};

/// Eight words a lane, one lane's behind the other's from `at` on. Eight lanes at a time would meet in four
/// groups of banks; every second four lanes read their halves the other way round.
__device__ __forceinline__ void load_eight_words(std::uint32_t at, int lane, LaneWords<8>& words) {
  const int swap = lane / 4 % 2;
  const uint4 a = load_shared(at + lane * 32 + swap * 16), b = load_shared(at + lane * 32 + (16 - swap * 16));
  words.set(0, swap ? b : a);
  words.set(4, swap ? a : b);
}

}  // namespace mpk
