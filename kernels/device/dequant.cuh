#pragma once
// Codes to halves without a conversion instruction. A half between 1024 and 2047 has an ulp of 1, so a code
// written into the low mantissa bits of 0x6400 is the number 1024 + code; one exact subtraction leaves code -
// bias. A code four bits higher is 1024 + 16 * code; one exact fused multiply-add takes it to code - bias.

#include <cstdint>

#include <cuda_fp16.h>

#include "kernels/device/mma.cuh"

namespace mpk {

__device__ __forceinline__ __half2 as_half2(std::uint32_t bits) {
  return *reinterpret_cast<const __half2*>(&bits);
}

/// (x & mask) | bits, in one instruction.
template <std::uint32_t kMask, std::uint32_t kBits>
__device__ __forceinline__ std::uint32_t and_or(std::uint32_t x) {
  std::uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(out) : "r"(x), "n"(kMask), "n"(kBits));
  return out;
}

/// A lane's words of one 16 x 64 tile, in memory order.
template <int kBits>
struct TileWords {
  static constexpr int kChunks = kBits / 4;  ///< of 16 bytes
  uint4 chunk[kChunks];
  __device__ __forceinline__ std::uint32_t operator[](
      int i) const {  // folds away: `i` is known after unrolling
    const uint4& c = chunk[i / 4];
    return i % 4 == 0 ? c.x : i % 4 == 1 ? c.y : i % 4 == 2 ? c.z : c.w;
  }
};

/// The B fragments of n-blocks 2 * pair and 2 * pair + 1: code - bias, exactly.
__device__ __forceinline__ void dequant(const TileWords<4>& words, int pair, FragmentB (&b)[2]) {
  const __half2 kLowZero = as_half2(0x64086408);  // 1024 + 8
  const __half2 kSixteenth = as_half2(0x2c002c00),
                kHighZero = as_half2(0xd480d480);  // 1/16, -(1024 / 16 + 8)
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::uint32_t x = words[pair] >> (8 * half);
    b[half].reg[0] = __hsub2(as_half2(and_or<0x000f000f, 0x64006400>(x)), kLowZero);
    b[half].reg[1] = __hfma2(as_half2(and_or<0x00f000f0, 0x64006400>(x)), kSixteenth, kHighZero);
  }
}
__device__ __forceinline__ void dequant(const TileWords<8>& words, int pair, FragmentB (&b)[2]) {
  const __half2 kZero = as_half2(0x64806480);  // 1024 + 128
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::uint32_t x = words[2 * pair + half];
    b[half].reg[0] = __hsub2(as_half2(__byte_perm(x, 0x64646464, 0x5250)), kZero);  // bytes 0 and 2
    b[half].reg[1] = __hsub2(as_half2(__byte_perm(x, 0x64646464, 0x5351)), kZero);  // bytes 1 and 3
  }
}

/// code - bias to weight: one product, rounded to half.
__device__ __forceinline__ void scale(FragmentB& b, __half s) {
  const __half2 both = __half2half2(s);
  b.reg[0] = __hmul2(b.reg[0], both);
  b.reg[1] = __hmul2(b.reg[1], both);
}

}  // namespace mpk
