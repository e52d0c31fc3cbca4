#pragma once
// wgmma: four warps multiply a 64 x 16 fragment in registers by a 16 x kN tile in shared memory, in the
// background; of bytes 64 x 32 and 32 x kN. Warp w holds rows 16 w .. 16 w + 15 of A as mma.m16n8k16 (of
// bytes m16n8k32) holds its A, and the same rows of the sums: value 4 b + i of a lane is (row lane / 4 +
// 8 (i / 2), column 8 b + 2 (lane % 4) + i % 2).

#include <cstdint>

#include "kernels/device/packed_float.cuh"

namespace mpk {

/// The tile B (16 or 32, kN) inside a panel of kN rows of 128 bytes, consecutive values of k, that the copy
/// engine wrote with its 128-byte swizzle; panels begin on multiples of 1024 bytes, `shared` is the first
/// byte of the 16 or 32 values of k in row 0.
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

/// What becomes of a register stays on its side of this: written in front of wgmma_fence(), read behind
/// wgmma_wait().
__device__ __forceinline__ void wgmma_pin(float& x) {
  asm volatile("" : "+f"(x)::"memory");
}
__device__ __forceinline__ void wgmma_pin(int& x) {
  asm volatile("" : "+r"(x)::"memory");
}
__device__ __forceinline__ void wgmma_pin(std::uint32_t& x) {
  asm volatile("" : "+r"(x)::"memory");
}

/// Integers are summed exactly, in 32 bits.
template <auto kType>
struct WgmmaSum {
  using Type = float;
};
template <>
struct WgmmaSum<Activation8::int8> {
  using Type = int;
};

/// sums = a * b, added to what they were if `add`. `kType`: a Float or Activation8.
template <auto kType, int kN>
__device__ void wgmma(typename WgmmaSum<kType>::Type (&d)[kN / 2], const std::uint32_t (&a)[4],
                      std::uint64_t b, bool add);

// One statement for all types; the numbers of the registers must be literals.
// clang-format off
#define MPK_WGMMA(KIND, SUM, REGISTER, STEP, TYPES, IMMEDIATES) \
  template <> \
  __device__ __forceinline__ void wgmma<KIND, 16>(SUM (&d)[8], const std::uint32_t (&a)[4], std::uint64_t b, bool add) { \
    asm volatile("{ .reg .pred add; setp.ne.s32 add, %13, 0; wgmma.mma_async.sync.aligned.m64n16" STEP "." TYPES " {" \
                 "%0, %1, %2, %3, %4, %5, %6, %7" \
                 "}, {%8, %9, %10, %11}, %12, add" IMMEDIATES "; }" \
                 : REGISTER(d[0]), REGISTER(d[1]), REGISTER(d[2]), REGISTER(d[3]), REGISTER(d[4]), REGISTER(d[5]), REGISTER(d[6]), \
                   REGISTER(d[7]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add))); \
  } \
  template <> \
  __device__ __forceinline__ void wgmma<KIND, 32>(SUM (&d)[16], const std::uint32_t (&a)[4], std::uint64_t b, bool add) { \
    asm volatile("{ .reg .pred add; setp.ne.s32 add, %21, 0; wgmma.mma_async.sync.aligned.m64n32" STEP "." TYPES " {" \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
                 "}, {%16, %17, %18, %19}, %20, add" IMMEDIATES "; }" \
                 : REGISTER(d[0]), REGISTER(d[1]), REGISTER(d[2]), REGISTER(d[3]), REGISTER(d[4]), REGISTER(d[5]), REGISTER(d[6]), \
                   REGISTER(d[7]), REGISTER(d[8]), REGISTER(d[9]), REGISTER(d[10]), REGISTER(d[11]), REGISTER(d[12]), \
                   REGISTER(d[13]), REGISTER(d[14]), REGISTER(d[15]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add))); \
  } \
  template <> \
  __device__ __forceinline__ void wgmma<KIND, 64>(SUM (&d)[32], const std::uint32_t (&a)[4], std::uint64_t b, bool add) { \
    asm volatile("{ .reg .pred add; setp.ne.s32 add, %37, 0; wgmma.mma_async.sync.aligned.m64n64" STEP "." TYPES " {" \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
                 "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
                 "}, {%32, %33, %34, %35}, %36, add" IMMEDIATES "; }" \
                 : REGISTER(d[0]), REGISTER(d[1]), REGISTER(d[2]), REGISTER(d[3]), REGISTER(d[4]), REGISTER(d[5]), REGISTER(d[6]), \
                   REGISTER(d[7]), REGISTER(d[8]), REGISTER(d[9]), REGISTER(d[10]), REGISTER(d[11]), REGISTER(d[12]), \
                   REGISTER(d[13]), REGISTER(d[14]), REGISTER(d[15]), REGISTER(d[16]), REGISTER(d[17]), REGISTER(d[18]), \
                   REGISTER(d[19]), REGISTER(d[20]), REGISTER(d[21]), REGISTER(d[22]), REGISTER(d[23]), REGISTER(d[24]), \
                   REGISTER(d[25]), REGISTER(d[26]), REGISTER(d[27]), REGISTER(d[28]), REGISTER(d[29]), REGISTER(d[30]), \
                   REGISTER(d[31]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add))); \
  } \
  template <> \
  __device__ __forceinline__ void wgmma<KIND, 128>(SUM (&d)[64], const std::uint32_t (&a)[4], std::uint64_t b, bool add) { \
    asm volatile("{ .reg .pred add; setp.ne.s32 add, %69, 0; wgmma.mma_async.sync.aligned.m64n128" STEP "." TYPES " {" \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
                 "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, " \
                 "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, " \
                 "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63" \
                 "}, {%64, %65, %66, %67}, %68, add" IMMEDIATES "; }" \
                 : REGISTER(d[0]), REGISTER(d[1]), REGISTER(d[2]), REGISTER(d[3]), REGISTER(d[4]), REGISTER(d[5]), REGISTER(d[6]), \
                   REGISTER(d[7]), REGISTER(d[8]), REGISTER(d[9]), REGISTER(d[10]), REGISTER(d[11]), REGISTER(d[12]), \
                   REGISTER(d[13]), REGISTER(d[14]), REGISTER(d[15]), REGISTER(d[16]), REGISTER(d[17]), REGISTER(d[18]), \
                   REGISTER(d[19]), REGISTER(d[20]), REGISTER(d[21]), REGISTER(d[22]), REGISTER(d[23]), REGISTER(d[24]), \
                   REGISTER(d[25]), REGISTER(d[26]), REGISTER(d[27]), REGISTER(d[28]), REGISTER(d[29]), REGISTER(d[30]), \
                   REGISTER(d[31]), REGISTER(d[32]), REGISTER(d[33]), REGISTER(d[34]), REGISTER(d[35]), REGISTER(d[36]), \
                   REGISTER(d[37]), REGISTER(d[38]), REGISTER(d[39]), REGISTER(d[40]), REGISTER(d[41]), REGISTER(d[42]), \
                   REGISTER(d[43]), REGISTER(d[44]), REGISTER(d[45]), REGISTER(d[46]), REGISTER(d[47]), REGISTER(d[48]), \
                   REGISTER(d[49]), REGISTER(d[50]), REGISTER(d[51]), REGISTER(d[52]), REGISTER(d[53]), REGISTER(d[54]), \
                   REGISTER(d[55]), REGISTER(d[56]), REGISTER(d[57]), REGISTER(d[58]), REGISTER(d[59]), REGISTER(d[60]), \
                   REGISTER(d[61]), REGISTER(d[62]), REGISTER(d[63]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add))); \
  }
#define MPK_WGMMA_256(KIND, SUM, REGISTER, STEP, TYPES, IMMEDIATES) \
  template <> \
  __device__ __forceinline__ void wgmma<KIND, 256>(SUM (&d)[128], const std::uint32_t (&a)[4], std::uint64_t b, bool add) { \
    asm volatile("{ .reg .pred add; setp.ne.s32 add, %133, 0; wgmma.mma_async.sync.aligned.m64n256" STEP "." TYPES " {" \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
                 "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, " \
                 "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, " \
                 "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, " \
                 "%70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, " \
                 "%87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, " \
                 "%104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, " \
                 "%121, %122, %123, %124, %125, %126, %127" \
                 "}, {%128, %129, %130, %131}, %132, add" IMMEDIATES "; }" \
                 : REGISTER(d[0]), REGISTER(d[1]), REGISTER(d[2]), REGISTER(d[3]), REGISTER(d[4]), REGISTER(d[5]), \
                   REGISTER(d[6]), REGISTER(d[7]), REGISTER(d[8]), REGISTER(d[9]), REGISTER(d[10]), REGISTER(d[11]), \
                   REGISTER(d[12]), REGISTER(d[13]), REGISTER(d[14]), REGISTER(d[15]), REGISTER(d[16]), REGISTER(d[17]), \
                   REGISTER(d[18]), REGISTER(d[19]), REGISTER(d[20]), REGISTER(d[21]), REGISTER(d[22]), REGISTER(d[23]), \
                   REGISTER(d[24]), REGISTER(d[25]), REGISTER(d[26]), REGISTER(d[27]), REGISTER(d[28]), REGISTER(d[29]), \
                   REGISTER(d[30]), REGISTER(d[31]), REGISTER(d[32]), REGISTER(d[33]), REGISTER(d[34]), REGISTER(d[35]), \
                   REGISTER(d[36]), REGISTER(d[37]), REGISTER(d[38]), REGISTER(d[39]), REGISTER(d[40]), REGISTER(d[41]), \
                   REGISTER(d[42]), REGISTER(d[43]), REGISTER(d[44]), REGISTER(d[45]), REGISTER(d[46]), REGISTER(d[47]), \
                   REGISTER(d[48]), REGISTER(d[49]), REGISTER(d[50]), REGISTER(d[51]), REGISTER(d[52]), REGISTER(d[53]), \
                   REGISTER(d[54]), REGISTER(d[55]), REGISTER(d[56]), REGISTER(d[57]), REGISTER(d[58]), REGISTER(d[59]), \
                   REGISTER(d[60]), REGISTER(d[61]), REGISTER(d[62]), REGISTER(d[63]), REGISTER(d[64]), REGISTER(d[65]), \
                   REGISTER(d[66]), REGISTER(d[67]), REGISTER(d[68]), REGISTER(d[69]), REGISTER(d[70]), REGISTER(d[71]), \
                   REGISTER(d[72]), REGISTER(d[73]), REGISTER(d[74]), REGISTER(d[75]), REGISTER(d[76]), REGISTER(d[77]), \
                   REGISTER(d[78]), REGISTER(d[79]), REGISTER(d[80]), REGISTER(d[81]), REGISTER(d[82]), REGISTER(d[83]), \
                   REGISTER(d[84]), REGISTER(d[85]), REGISTER(d[86]), REGISTER(d[87]), REGISTER(d[88]), REGISTER(d[89]), \
                   REGISTER(d[90]), REGISTER(d[91]), REGISTER(d[92]), REGISTER(d[93]), REGISTER(d[94]), REGISTER(d[95]), \
                   REGISTER(d[96]), REGISTER(d[97]), REGISTER(d[98]), REGISTER(d[99]), REGISTER(d[100]), REGISTER(d[101]), \
                   REGISTER(d[102]), REGISTER(d[103]), REGISTER(d[104]), REGISTER(d[105]), REGISTER(d[106]), \
                   REGISTER(d[107]), REGISTER(d[108]), REGISTER(d[109]), REGISTER(d[110]), REGISTER(d[111]), \
                   REGISTER(d[112]), REGISTER(d[113]), REGISTER(d[114]), REGISTER(d[115]), REGISTER(d[116]), \
                   REGISTER(d[117]), REGISTER(d[118]), REGISTER(d[119]), REGISTER(d[120]), REGISTER(d[121]), \
                   REGISTER(d[122]), REGISTER(d[123]), REGISTER(d[124]), REGISTER(d[125]), REGISTER(d[126]), REGISTER(d[127]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add))); \
  }
MPK_WGMMA(Float::f16, float, "+f", "k16", "f32.f16.f16", ", 1, 1, 0")
MPK_WGMMA(Float::bf16, float, "+f", "k16", "f32.bf16.bf16", ", 1, 1, 0")
MPK_WGMMA(Activation8::int8, int, "+r", "k32", "s32.s8.s8", "")
MPK_WGMMA(Activation8::e4m3, float, "+f", "k32", "f32.e4m3.e4m3", ", 1, 1")
// 8-bit activations have sums twice: no registers for that many.
MPK_WGMMA_256(Float::f16, float, "+f", "k16", "f32.f16.f16", ", 1, 1, 0")
MPK_WGMMA_256(Float::bf16, float, "+f", "k16", "f32.bf16.bf16", ", 1, 1, 0")
#undef MPK_WGMMA
#undef MPK_WGMMA_256
// clang-format on

}  // namespace mpk
