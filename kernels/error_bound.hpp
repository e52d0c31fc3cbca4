#pragma once
// How far an output of the GEMM may lie from sum_k a * w [+ bias], w = (code - zero) * scale [* global scale]
// taken exactly. A bound, not an estimate: it follows from the roundings that gemm.hpp lists, K and the
// magnitudes of the data.
//
// F is the type of activations and outputs, u its unit roundoff (f16 2^-11, bf16 2^-8) and e half the gap
// between its subnormals (2^-25, 2^-134): rounding x to F moves it by at most u |x| + e. Write P = sum a * w
// (exact), S = sum |a| * |w|, A = sum |a|. Two things are taken for granted: every weight is a finite number
// of F, and no sum, in the units in which it is made, leaves the range of float32 (in f16 none can; in bf16
// none does while activations stay below 2^64).
//
// 1. Weights
//    Integers and e4m3 in groups: each weight is off by at most u |w| + e, so the sum is off by at most u S +
//    e A, and what is summed has magnitudes of at most S' = (1 + u) S + e A. (Kernels that leave scales to
//    the sums of a group do not round here, and see below.)
//    Integers with float zero points: code - zero point is rounded before that, by at most u of itself (what
//    is smaller than the smallest normal number is exact), so the sum is off by (2 u + u^2) S + e A. Kernels
//    that leave scales to the sums decode to steps of 2^-9 in f16, where multiples of 2^-15 are left of a
//    zero point: 2^-15 more at most, in units of the scale. (In bf16 to steps of 2^-6: nothing is lost.)
//    One scale per column: exact and S' = S, or off by u S with float zero points; the sums are then in units
//    of |scale|, which changes no relative error.
//    nvfp4: exact, by its values: 2 times 4 significant bits, all of 2^-17 .. 21 in f16 and of 2^-114 ..
//    2^-92 in bf16. In units of the global scale.
//    mxfp4: products are made 2^-63 too small, where bf16 has multiples of 2^-133: exact for scales from
//    2^-69 to 2^64; off by at most 2^-71 below, and the scale byte 0, which means 2^-127, decodes to 0: 2^-70
//    A.
//
// 2. Sums
//    One mma adds 16 exact products to an accumulator, inside the chip in blocks of products, each together
//    with the running sum: the addends are aligned to the largest of them, cut off below its 24th significant
//    bit and added, and the result is cut off likewise. With cut = 2^-23, a block of b products costs b + 1
//    cuts for its addends and one for its result, each at most cut times the magnitude summed so far. Blocks
//    of 4, 8 or 16 products (all that was ever observed, compute capability 7.0 to 9.0) make 4 * 6, 2 * 10 or
//    1 * 18 cuts: at most 24 an mma, and n = 24 ceil(K / 16) along a chain. wgmma has the same sums.
//    Splitting the chain into p partial sums adds p - 1 float32 additions and takes at least as many mmas out
//    of the longest path; an addition (2^-24) costs less than an mma, so n covers every split. It covers
//    scales on sums, too: every group but one takes its mmas, two at least, off the chain and puts one fused
//    multiply-add (2^-24) there. The magnitude summed so far grows by the errors themselves: n cut / (1 - n
//    cut) of S' in all.
//    In f16 nothing underflows: every addend is a multiple of 2^-57. In bf16 each of the K products, n cuts
//    and K additions may lose what is smaller than the smallest normal float32, in units of 1 or 2^-6: (n + 2
//    K) 2^-120; with mxfp4, whose sums are 2^63 too small, (n + 2 K) 2^-63. nvfp4's are 2^104 too small, in
//    units of a global scale of at most 2^7, and subnormal sums have to be kept, down to 2^-149 (a GPU test
//    sees to that): (n + 2 K) 2^-38.
//
// 3. Activations of 8 bits, with the scale r of their row: P = r sum a8 * w, S and A likewise
//    Weights are exact in the 8-bit type; what e8m0 scales, 16-bit scales and r multiply are sums.
//    int8: sums of integers are exact. Each that leaves the integers, of 32 products or more, is rounded to
//    float32 and goes into one fused multiply-add and at most one addition of partial sums: 3 * 2^-24, less
//    than two cuts for 32 products.
//    e4m3: sums as in 2, but an mma has 32 products (in blocks of 4 to 32: at most 48 cuts), and the cut is
//    2^-13: measured chips keep 14 significant bits. No chain is longer than kChain8 = 128 products, and its
//    sum then leaves for float32 as above. So at most 48 * 4 cuts of 2^-13 and one of 2^-23 for 32 products.
//    Nothing is cut off, and the sums are as exact as int8's, if activations are whole numbers of at most
//    kExactFp8: with weights of at most 15 steps all sums of a chain are less than 2^14 steps.
//    Where a float32 operation underflows it loses less than 2^-126, and r multiplies that. As no |a8| but 0
//    is below 2^-9, r <= 2^9 A: the loss is as in 2 times 1 + 2^9 A.
//
// 4. Output
//    One scale per column, a global scale, the scale of a row: a float32 product each, 2^-24 of the value,
//    counted as one more cut. So is the product with the global scale that a float32 weight has which the
//    output is compared with; with float zero points its difference and its product. A bias: a float32
//    addition, 2^-24 of the sum. Then F: u |value| + e, with |value| <= |P + bias| + the errors so far.
//
// A value that rounds beyond the largest number of F is infinite there. If |P + bias| + bound reaches that,
// infinity is a correct output and so is the bound.

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "kernels/gemm.hpp"

namespace mpk {

/// FP8 activations that are whole numbers of at most so much in magnitude have exact sums.
inline constexpr int kExactFp8 = 4;
static_assert(kExactFp8 * 15 * kChain8 < 1 << 14);

/// Which of the roundings a product has.
struct GemmRoundings {
  Float output = Float::f16;
  bool differences = false;    ///< code - zero point is rounded
  bool weights = false;        ///< so is each weight
  double lost_difference = 0;  ///< what decoding may leave out of code - zero point
  double lost_weight = 0.0;    ///< what it may leave out of a weight
  double lost_sum = 0x1p-126;  ///< what an addition may lose, where small numbers are
  int products = 0;            ///< of the finished sum, and with the global scale of what it is compared with
  std::optional<Activation8> activations8 = {};  ///< otherwise they have 16 bits
  bool exact_fp8 = false;                        ///< all of them are whole, as kExactFp8 says

  /// Of a layer whose largest scale is known.
  constexpr GemmRoundings with_scales_up_to(double magnitude) const {
    GemmRoundings known = *this;
    known.lost_weight += lost_difference * magnitude;
    return known;
  }
};
constexpr GemmRoundings roundings_of(Weight weight, Float activations, bool grouped) {
  return {
      .output = activations,
      .differences = weight == Weight::u4_float_zeros,
      .weights = grouped && !is_fp4(weight),
      .lost_difference = weight == Weight::u4_float_zeros && activations == Float::f16 ? 0x1p-15 : 0.0,
      .lost_weight = weight == Weight::mxfp4 ? 0x1p-70 : 0.0,
      .lost_sum = weight == Weight::nvfp4   ? 0x1p-38
                  : weight == Weight::mxfp4 ? 0x1p-63
                                            : 0x1p-120,
      .products = (grouped ? 0 : 1) + (weight == Weight::nvfp4 || weight == Weight::u4_float_zeros ? 2 : 0),
  };
}
constexpr GemmRoundings roundings_of(Activation8 activations8, Float output, bool grouped) {
  return {.output = output, .products = grouped ? 1 : 2, .activations8 = activations8};
}
inline GemmRoundings roundings_of(const LayerShape& layer) {
  return layer.activations8 ? roundings_of(*layer.activations8, layer.activations, layer.grouped())
                            : roundings_of(layer.weight, layer.activations, layer.grouped());
}

/// What summing K products may cost, relative to the magnitudes summed.
inline double relative_sum_error(const GemmRoundings& roundings, K k) {
  constexpr double kCut = 0x1p-23, kFp8Cut = 0x1p-13;
  const double mmas = std::ceil(static_cast<double>(k.value) / (roundings.activations8 ? 32 : 16));
  if (!roundings.activations8) return (24.0 * mmas + roundings.products) * kCut;
  if (roundings.activations8 == Activation8::int8 || roundings.exact_fp8)
    return (2.0 * mmas + roundings.products) * kCut;
  return 48.0 * std::min(mmas, kChain8 / 32.0) * kFp8Cut + (mmas + roundings.products) * kCut;
}

/// `roundings`: of a layer with float zero points, with_scales_up_to(). `product` = P, `magnitude` = S,
/// `sum_abs_activations` = A, the last three with the scale of their row.
inline double gemm_error_bound(const GemmRoundings& roundings, K k, double product, double magnitude,
                               double sum_abs_activations, double bias = 0.0) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const bool f16 = roundings.output == Float::f16;
  const double u = f16 ? 0x1p-11 : 0x1p-8, e = f16 ? 0x1p-25 : 0x1p-134;
  const double infinity_from = f16 ? 65520.0 : (2.0 - 0x1p-8) * 0x1p127;

  const double off = (1.0 + (roundings.differences ? u : 0.0)) * (1.0 + (roundings.weights ? u : 0.0)) - 1.0;
  const double weights = off * magnitude + (roundings.weights ? e * sum_abs_activations : 0.0) +
                         roundings.lost_weight * sum_abs_activations;
  const double summed = magnitude + weights;

  const double cuts = relative_sum_error(roundings, k);
  if (!(cuts < 1.0)) return kInfinity;
  const auto rows = static_cast<double>(k.value);
  double underflow = (24.0 * std::ceil(rows / 16) + 2.0 * rows) * roundings.lost_sum;
  if (roundings.activations8)
    underflow *= 1.0 + 0x1p9 * sum_abs_activations;
  else if (f16)
    underflow = 0.0;
  const double before_bias = weights + cuts / (1.0 - cuts) * summed + underflow;

  const double sum = std::abs(product + bias) + before_bias;
  const double before_output = before_bias + (bias != 0.0 ? 0x1p-24 * sum : 0.0);
  const double bound = before_output + u * (std::abs(product + bias) + before_output) + e;
  return std::abs(product + bias) + bound < infinity_from ? bound : kInfinity;
}

}  // namespace mpk
