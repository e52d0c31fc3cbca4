#pragma once
// wgmma: four warps multiply a 64 x 16 fragment in registers by a 16 x kN tile in shared memory, in the
// background. Warp w holds rows 16 w .. 16 w + 15 of A as mma.m16n8k16 holds its 16 x 16 A, and the same rows
// of the sums: value 4 b + i of a lane is (row lane / 4 + 8 (i / 2), column 8 b + 2 (lane % 4) + i % 2).

#include <cstdint>

#include "kernels/device/packed_float.cuh"

namespace mpk {

/// The tile B (16, kN) inside a panel of kN rows of 128 bytes, 64 values of k each, that the copy engine
/// wrote with its 128-byte swizzle; panels begin on multiples of 1024 bytes, `shared` is the first byte of
/// the 16 values of k in row 0.
__device__ __forceinline__ std::uint64_t wgmma_tile(std::uint32_t shared) {
  constexpr std::uint64_t kSwizzle128 = 1ull << 62, kEightRows = std::uint64_t{1024 / 16} << 32,
                          kUnused = 1ull << 16;
  return kSwizzle128 | kEightRows | kUnused | ((shared & 0x3ffff) >> 4);
}

/// Registers written before are seen by the wgmmas after.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Returns when all but the newest `kPending` committed groups have ended.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// sums = a * b, added to what they were if `add`.
template <Float kFloat, int kN>
__device__ void wgmma(float (&d)[kN / 2], const std::uint32_t (&a)[4], std::uint64_t b, bool add);

// One statement for both types; the numbers of the registers must be literals.
// clang-format off
#define MPK_WGMMA(FLOAT, TYPE) \
  template <> \
  __device__ __forceinline__ void wgmma<FLOAT, 16>(float (&d)[8], const std::uint32_t (&a)[4], std::uint64_t b, bool add) { \
    asm volatile("{ .reg .pred add; setp.ne.s32 add, %13, 0; wgmma.mma_async.sync.aligned.m64n16k16.f32." TYPE "." TYPE " {" \
                 "%0, %1, %2, %3, %4, %5, %6, %7" \
                 "}, {%8, %9, %10, %11}, %12, add, 1, 1, 0; }" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
                   "+f"(d[7]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add))); \
  } \
  template <> \
  __device__ __forceinline__ void wgmma<FLOAT, 32>(float (&d)[16], const std::uint32_t (&a)[4], std::uint64_t b, bool add) { \
    asm volatile("{ .reg .pred add; setp.ne.s32 add, %21, 0; wgmma.mma_async.sync.aligned.m64n32k16.f32." TYPE "." TYPE " {" \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
                 "}, {%16, %17, %18, %19}, %20, add, 1, 1, 0; }" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
                   "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), \
                   "+f"(d[13]), "+f"(d[14]), "+f"(d[15]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add))); \
  } \
  template <> \
  __device__ __forceinline__ void wgmma<FLOAT, 64>(float (&d)[32], const std::uint32_t (&a)[4], std::uint64_t b, bool add) { \
    asm volatile("{ .reg .pred add; setp.ne.s32 add, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " {" \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
                 "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
                 "}, {%32, %33, %34, %35}, %36, add, 1, 1, 0; }" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
                   "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), \
                   "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), \
                   "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), \
                   "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), \
                   "+f"(d[31]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add))); \
  } \
  template <> \
  __device__ __forceinline__ void wgmma<FLOAT, 128>(float (&d)[64], const std::uint32_t (&a)[4], std::uint64_t b, bool add) { \
    asm volatile("{ .reg .pred add; setp.ne.s32 add, %69, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE " {" \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
                 "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, " \
                 "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, " \
                 "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63" \
                 "}, {%64, %65, %66, %67}, %68, add, 1, 1, 0; }" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
                   "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), \
                   "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), \
                   "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), \
                   "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), \
                   "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), \
                   "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), \
                   "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), \
                   "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), \
                   "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), \
                   "+f"(d[61]), "+f"(d[62]), "+f"(d[63]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add))); \
  }
MPK_WGMMA(Float::f16, "f16")
MPK_WGMMA(Float::bf16, "bf16")
#undef MPK_WGMMA
// clang-format on

}  // namespace mpk
