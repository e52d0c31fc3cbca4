#pragma once
// How far an output of the GEMM may lie from sum_k a * w, w = (code - bias) * scale taken exactly. A bound,
// not an estimate: it follows from the roundings that gemm.hpp lists, K and the magnitudes of the data.
//
// u16 = 2^-11 is the unit roundoff of float16, e16 = 2^-25 half the gap between its subnormals: rounding x to
// float16 moves it by at most u16 |x| + e16. Write P = sum a * w (exact), S = sum |a| * |w|, A = sum |a|.
//
// 1. Weights
//    Grouped: each weight is off by at most u16 |w| + e16, so the sum is off by at most u16 S + e16 A, and
//    what is summed has magnitudes of at most S' = (1 + u16) S + e16 A. One scale per column: exact and S' =
//    S; the sums are then in units of |scale|, which changes no relative error.
//
// 2. Sums
//    One mma adds 16 exact products to an accumulator, inside the chip in blocks of products, each together
//    with the running sum: the addends are aligned to the largest of them, cut off below its 24th significant
//    bit and added, and the result is cut off likewise. With cut = 2^-23, a block of b products costs b + 1
//    cuts for its addends and one for its result, each at most cut times the magnitude summed so far. Blocks
//    of 4, 8 or 16 products (all that was ever observed, compute capability 7.0 to 9.0) make 4 * 6, 2 * 10 or
//    1 * 18 cuts: at most 24 an mma, and n = 24 ceil(K / 16) along a chain.
//    Splitting the chain into p partial sums adds p - 1 float32 additions and takes at least as many mmas out
//    of the longest path; an addition (2^-24) costs less than an mma, so n covers every split. The magnitude
//    summed so far grows by the errors themselves: n cut / (1 - n cut) of S' in all. Nothing underflows in
//    float32: every addend is a multiple of 2^-48.
//
// 3. Output
//    One scale per column: a float32 product, 2^-24 of the value, counted as one more cut. Then float16: u16
//    |value| + e16, with |value| <= |P| + the errors so far.
//
// From 65520 on a float16 is infinite. If |P| + bound reaches that, infinity is a correct output and so is
// the bound.

#include <cmath>
#include <cstdint>
#include <limits>

#include "packer/format/units.hpp"

namespace mpk {

/// `product` = P, `magnitude` = S, `sum_abs_activations` = A. `grouped`: more than one scale per column.
inline double gemm_error_bound(K k, bool grouped, double product, double magnitude,
                               double sum_abs_activations) {
  constexpr double kHalfUlp16 = 0x1p-11, kHalfSubnormal16 = 0x1p-25, kCut = 0x1p-23, kInfinityFrom = 65520.0;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double weights = grouped ? kHalfUlp16 * magnitude + kHalfSubnormal16 * sum_abs_activations : 0.0;
  const double summed = magnitude + weights;

  const auto mmas = static_cast<double>((k.value + 15) / 16);
  const double cuts = (24.0 * mmas + (grouped ? 0.0 : 1.0)) * kCut;
  if (!(cuts < 1.0)) return kInfinity;
  const double before_output = weights + cuts / (1.0 - cuts) * summed;

  const double value = std::abs(product) + before_output;
  const double bound = before_output + kHalfUlp16 * value + kHalfSubnormal16;
  return std::abs(product) + bound < kInfinityFrom ? bound : kInfinity;
}

}  // namespace mpk
