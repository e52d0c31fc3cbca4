#pragma once
// How far an output of the GEMM may lie from sum_k a * w, w = (code - bias) * scale taken exactly. A bound,
// not an estimate: it follows from the roundings that gemm.hpp lists, K and the magnitudes of the data.
//
// u16 = 2^-11 is the unit roundoff of float16, e16 = 2^-25 half the gap between its subnormals: rounding x to
// float16 moves it by at most u16 |x| + e16. Write P = sum a * w (exact), S = sum |a| * |w|, A = sum |a|.
//
// 1. Weights. Grouped: each weight is off by at most u16 |w| + e16, so the sum is off by at most u16 S + e16
// A, and what is
//    summed has magnitudes of at most S' = (1 + u16) S + e16 A. One scale per column: exact; S' = S, where S
//    stands for |scale| times the sum of the unscaled products, whose relative errors are the same.
//
// 2. Sums. One mma adds 16 exact products to an accumulator. Whatever the chip does inside is some tree over
// blocks of
//    addends, each block together with the running sum: the addends are aligned to the largest of the block
//    and cut off below its 24th significant bit, added, and the result is cut off likewise. With cut = 2^-23,
//    a block of b products costs at most (b + 1) cuts for the addends and one for the result, each of at most
//    cut times the block's largest addend or its result, hence at most cut times the magnitude summed so far.
//    Blocks of 4, 8 or 16 products (all that has been observed from compute capability 7.0 to 9.0) make 4 *
//    6, 2 * 10 or 1 * 18 of them: at most 24 cuts an mma. K / 16 mmas in a chain: n = 24 ceil(K / 16) cuts.
//    Splitting the chain into p partial sums takes at least one mma out of the longest path for each of the p
//    - 1 float32 additions it adds, and such an addition (2^-24) costs less than an mma, so n covers every
//    split. The magnitude summed so far itself grows by the errors: n cut / (1 - n cut). No float32
//    underflow: every addend is a multiple of 2^-48.
//
// 3. Output. One scale per column: a float32 product, 2^-24 of the value (counted as one more cut, as n + 1).
// Then float16:
//    u16 |value| + e16, with |value| <= |P| + the errors so far.
//
// Beyond 65520 a float16 is infinite. If |P| + bound reaches that, infinity is a correct output and so is the
// bound.

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
