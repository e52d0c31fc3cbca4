#pragma once
// Two 16-bit floats in a 32-bit register, of either kind that the tensor cores take.

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/weight.hpp"

namespace mpk {

namespace detail {
template <Float kFloat>
struct Native;
template <>
struct Native<Float::f16> {
  using One = __half;
  using Two = __half2;
};
template <>
struct Native<Float::bf16> {
  using One = __nv_bfloat16;
  using Two = __nv_bfloat162;
};
}  // namespace detail

template <Float kFloat>
using NativeFloat = typename detail::Native<kFloat>::One;

template <Float kFloat>
__device__ __forceinline__ auto as_pair(std::uint32_t bits) {
  return *reinterpret_cast<const typename detail::Native<kFloat>::Two*>(&bits);
}
template <class Two>
__device__ __forceinline__ std::uint32_t as_bits(Two pair) {
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

/// Each rounds once, to nearest even.
template <Float kFloat>
__device__ __forceinline__ std::uint32_t sub(std::uint32_t a, std::uint32_t b) {
  return as_bits(__hsub2(as_pair<kFloat>(a), as_pair<kFloat>(b)));
}
template <Float kFloat>
__device__ __forceinline__ std::uint32_t mul(std::uint32_t a, std::uint32_t b) {
  return as_bits(__hmul2(as_pair<kFloat>(a), as_pair<kFloat>(b)));
}
template <Float kFloat>
__device__ __forceinline__ std::uint32_t fma(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  return as_bits(__hfma2(as_pair<kFloat>(a), as_pair<kFloat>(b), as_pair<kFloat>(c)));
}
template <Float kFloat>
__device__ __forceinline__ std::uint32_t round_to(float low, float high) {
  if constexpr (kFloat == Float::f16)
    return as_bits(__floats2half2_rn(low, high));
  else
    return as_bits(__floats2bfloat162_rn(low, high));
}

template <Float kFloat>
__device__ __forceinline__ float2 to_floats(std::uint32_t x) {
  if constexpr (kFloat == Float::f16)
    return __half22float2(as_pair<kFloat>(x));
  else
    return __bfloat1622float2(as_pair<kFloat>(x));
}

/// Half `kWhich` (0 low, 1 high) of `x`, twice.
template <int kWhich>
__device__ __forceinline__ std::uint32_t broadcast(std::uint32_t x) {
  // Written so that the compiler lets arithmetic name the half instead.
  std::uint32_t out;
  if constexpr (kWhich == 0)
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %1; mov.b32 %0, {low, low}; }" : "=r"(out) : "r"(x));
  else
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %1; mov.b32 %0, {high, high}; }" : "=r"(out) : "r"(x));
  return out;
}
/// (x & kMask) | bits, (x & kMask) ^ bits, (x & kMask) | (y & ~kMask): each one instruction.
template <std::uint32_t kMask>
__device__ __forceinline__ std::uint32_t and_or(std::uint32_t x, std::uint32_t bits) {
  std::uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(out) : "r"(x), "n"(kMask), "r"(bits));
  return out;
}
template <std::uint32_t kMask>
__device__ __forceinline__ std::uint32_t and_xor(std::uint32_t x, std::uint32_t bits) {
  std::uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0x6A;" : "=r"(out) : "r"(x), "n"(kMask), "r"(bits));
  return out;
}
template <std::uint32_t kMask>
__device__ __forceinline__ std::uint32_t select(std::uint32_t x, std::uint32_t y) {
  std::uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0xE4;" : "=r"(out) : "r"(x), "r"(y), "n"(kMask));
  return out;
}

}  // namespace mpk
