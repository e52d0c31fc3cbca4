#pragma once
// The tensor core instruction and the load that feeds it. Coordinates: fragment.cuh.

#include <cstdint>

#include "kernels/weight.hpp"

namespace mpk {

struct FragmentA {
  std::uint32_t reg[4];
};
struct FragmentB {
  std::uint32_t reg[2];
};

/// Four 8 x 8 matrices of 16-bit floats; every lane points at one row of 16 bytes.
__device__ __forceinline__ FragmentA ldmatrix_x4(std::uint32_t shared) {
  FragmentA a;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a.reg[0]), "=r"(a.reg[1]), "=r"(a.reg[2]), "=r"(a.reg[3])
               : "r"(shared)
               : "memory");
  return a;
}

/// The same, each matrix transposed on the way.
__device__ __forceinline__ FragmentA ldmatrix_x4_transposed(std::uint32_t shared) {
  FragmentA a;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a.reg[0]), "=r"(a.reg[1]), "=r"(a.reg[2]), "=r"(a.reg[3])
               : "r"(shared)
               : "memory");
  return a;
}

/// An 8 x 8 matrix of 16-bit floats, of which lane L holds elements 2 (L % 4) and one more of row L / 4,
/// transposed.
__device__ __forceinline__ std::uint32_t transposed(std::uint32_t matrix) {
  std::uint32_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(matrix));
  return out;
}

/// c += a * b: 16 x 8 floats, 16 x 16 and 16 x 8 16-bit floats.
template <Float kFloat>
__device__ __forceinline__ void mma(float (&c)[4], const FragmentA& a, const FragmentB& b) {
  if constexpr (kFloat == Float::f16)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.reg[0]), "r"(a.reg[1]), "r"(a.reg[2]), "r"(a.reg[3]), "r"(b.reg[0]), "r"(b.reg[1]));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.reg[0]), "r"(a.reg[1]), "r"(a.reg[2]), "r"(a.reg[3]), "r"(b.reg[0]), "r"(b.reg[1]));
}

/// The same of bytes: 16 x 32 and 32 x 8. Signed integers, exactly.
__device__ __forceinline__ void mma8(int (&c)[4], const FragmentA& a, const FragmentB& b) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a.reg[0]), "r"(a.reg[1]), "r"(a.reg[2]), "r"(a.reg[3]), "r"(b.reg[0]), "r"(b.reg[1]));
}
/// e4m3. Needs compute capability 8.9.
__device__ __forceinline__ void mma8(float (&c)[4], const FragmentA& a, const FragmentB& b) {
  asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.reg[0]), "r"(a.reg[1]), "r"(a.reg[2]), "r"(a.reg[3]), "r"(b.reg[0]), "r"(b.reg[1]));
}

}  // namespace mpk
