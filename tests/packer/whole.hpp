#pragma once
// The packers on whole matrices, which most tests want; the product passes slabs.

#include "packer/pack.hpp"
#include "packer/scales.hpp"

namespace mpk::test {

inline void whole_marlin(const Codes& codes, ScalarType type, std::span<std::byte> out) {
  pack_marlin(codes, type, {N{codes.cols()}}, out);
}
inline Codes from_marlin(std::span<const std::byte> words, K k, N n, ScalarType type) {
  Codes codes(k.value, n.value);
  unpack_marlin(words, type, {n}, codes);
  return codes;
}
inline void whole_gptq(const Codes& codes, ScalarType type, std::span<std::byte> out) {
  pack_along_k(codes, type.bits, WordGrid::down(N{codes.cols()}), 0, out);
}
inline Codes from_gptq(std::span<const std::byte> words, K k, N n, ScalarType type) {
  Codes codes(k.value, n.value);
  unpack_along_k(words, type.bits, WordGrid::down(n), 0, codes);
  return codes;
}
inline void whole_scales(const MatrixF& scales, DType dtype, ScaleOrder order, std::span<std::byte> out) {
  const N n{scales.cols()};
  store_scales(scales, dtype, ScaleGrid::rows(n, order), {n}, out);
}
inline MatrixF from_scales(std::span<const std::byte> bytes, Groups groups, N n, DType dtype,
                           ScaleOrder order) {
  MatrixF scales(groups.value, n.value);
  load_scales(bytes, dtype, ScaleGrid::rows(n, order), {n}, scales);
  return scales;
}

}  // namespace mpk::test
