#pragma once
// The tensor core instruction and the load that feeds it. Coordinates: fragment.cuh.

#include <cstdint>

#include <cuda_fp16.h>

namespace mpk {

struct FragmentA {
  std::uint32_t reg[4];
};
struct FragmentB {
  __half2 reg[2];
};

/// Four 8 x 8 matrices of halves; every lane points at one row of 16 bytes.
__device__ __forceinline__ FragmentA ldmatrix_x4(std::uint32_t shared) {
  FragmentA a;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a.reg[0]), "=r"(a.reg[1]), "=r"(a.reg[2]), "=r"(a.reg[3])
               : "r"(shared)
               : "memory");
  return a;
}

/// c += a * b: 16 x 8 floats, 16 x 16 and 16 x 8 halves.
__device__ __forceinline__ void mma(float (&c)[4], const FragmentA& a, const FragmentB& b) {
  const std::uint32_t b0 = *reinterpret_cast<const std::uint32_t*>(&b.reg[0]);
  const std::uint32_t b1 = *reinterpret_cast<const std::uint32_t*>(&b.reg[1]);
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.reg[0]), "r"(a.reg[1]), "r"(a.reg[2]), "r"(a.reg[3]), "r"(b0), "r"(b1));
}

}  // namespace mpk
