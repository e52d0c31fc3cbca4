#pragma once
// Where the elements of mma.m16n8k16 live, and those of m16n8k32, whose elements are bytes; and why Marlin's
// words can be used as they come. Index arithmetic
// only: compiles as plain C++, and the compiler proves below that these formulas and
// packer/format/layouts.hpp agree.

#include "packer/format/layouts.hpp"

namespace mpk {

inline constexpr int kMmaM = 16, kMmaN = 8, kMmaK = 16, kMmaK8 = 32;
inline constexpr int kWarpSize = 32;
inline constexpr int kBlocksPerTile =
    kTileN / kMmaN;  ///< mma columns of the 16 x 64 tile a warp takes at a time
inline constexpr int kBlocksPerTileA8 = kTileA8 / kMmaN;  ///< of a 32 x 32 tile, of which it takes two

/// Lane = 4 * row + quad: its place in the 8 x 4 arrangement that all fragments share.
struct LanePlace {
  int row, quad;
};
constexpr MPK_HOST_DEVICE LanePlace lane_place(int lane) {
  return {lane / 4, lane % 4};
}

struct RowCol {
  int row, col;
};
/// B (k, n) of a lane: half `e` of register `r`, inside one 16 x 8 block.
constexpr MPK_HOST_DEVICE RowCol b_element(int lane, int r, int e) {
  const LanePlace p = lane_place(lane);
  return {2 * p.quad + e + 8 * r, p.row};
}
/// The same of bytes: byte `e` of register `r`, inside one 32 x 8 block.
constexpr MPK_HOST_DEVICE RowCol b_element8(int lane, int r, int e) {
  const LanePlace p = lane_place(lane);
  return {4 * p.quad + e + 16 * r, p.row};
}
/// C (m, n) of a lane: value `i` of 4, inside one 16 x 8 block. Values 2i and 2i+1 are neighbours in a row.
constexpr MPK_HOST_DEVICE RowCol c_element(int lane, int i) {
  const LanePlace p = lane_place(lane);
  return {p.row + 8 * (i / 2), 2 * p.quad + i % 2};
}
/// A, by ldmatrix.x4 (four 8 x 8 matrices in register order): the row, and the eight columns `8 * col ..`,
/// whose 16 bytes this lane points at. Of bytes sixteen columns: a lane then gets (row, 4 * quad + e + 16
/// col).
constexpr MPK_HOST_DEVICE RowCol a_row_of_lane(int lane) {
  return {lane % 16, lane / 16};
}

/// The code that belongs to half `e` of register `r` of n-block `block`: position among a tile's codes.
template <int kBits>
constexpr MPK_HOST_DEVICE int code_position(int lane, int block, int r, int e) {
  if constexpr (kBits == 4)  // four words a lane, two blocks a word; halves four nibbles apart
    return (4 * lane + block / 2) * 8 + 4 * e + 2 * (block % 2) + r;
  else  // eight words a lane, one block a word; halves two bytes apart
    return (8 * lane + block) * 4 + 2 * e + r;
}

/// The same in the layout for 8-bit activations: byte `e` of register `r` of n-block `block` of 32 x 32
/// codes.
template <int kBits>
constexpr MPK_HOST_DEVICE int code_position8(int lane, int block, int r, int e) {
  if constexpr (kBits == 4)  // four words a lane, one block a word; register r has the low or high nibbles
    return (4 * lane + block) * 8 + 2 * e + r;
  else  // eight words a lane, each a register
    return (8 * lane + 2 * block + r) * 4 + e;
}

/// Grouped scales: the eight columns `row, 8 + row, ...` that a lane decodes are 16 consecutive bytes.
constexpr MPK_HOST_DEVICE int grouped_scale_position(int lane, int block) {
  return 8 * lane_place(lane).row + block;
}
/// One scale per column: the columns of a lane's accumulators, four n-blocks in 16 consecutive bytes.
constexpr MPK_HOST_DEVICE int single_scale_position(int lane, int block, int e) {
  return 32 * (block / 4) + 8 * lane_place(lane).quad + 2 * (block % 4) + e;
}
/// The same order, asked by column: position of column `n` of 64.
constexpr MPK_HOST_DEVICE int single_scale_position(int n) {
  return 32 * (n / 32) + n % 8 / 2 * 8 + n % 32 / 8 * 2 + n % 2;
}

namespace proof {

template <int kBits, DigitMap kMap>
constexpr bool words_are_b_fragments() {
  for (int lane = 0; lane < kWarpSize; ++lane)
    for (int block = 0; block < kBlocksPerTile; ++block)
      for (int r = 0; r < 2; ++r)
        for (int e = 0; e < 2; ++e) {
          const RowCol kn = b_element(lane, r, e);
          if (source<kMap>(code_position<kBits>(lane, block, r, e)) !=
              kn.row * kTileN + kMmaN * block + kn.col)
            return false;
        }
  return true;
}
static_assert(words_are_b_fragments<4, kMarlinU4>() && words_are_b_fragments<8, kMarlinU8>());

template <int kBits, DigitMap kMap>
constexpr bool words_are_b_fragments8() {
  for (int lane = 0; lane < kWarpSize; ++lane)
    for (int block = 0; block < kBlocksPerTileA8; ++block)
      for (int r = 0; r < 2; ++r)
        for (int e = 0; e < 4; ++e) {
          const RowCol kn = b_element8(lane, r, e);
          if (source<kMap>(code_position8<kBits>(lane, block, r, e)) !=
              kn.row * kTileA8 + kMmaN * block + kn.col)
            return false;
        }
  return true;
}
static_assert(words_are_b_fragments8<4, kMarlinA8U4>() && words_are_b_fragments8<8, kMarlinA8U8>());

template <DigitMap kGrouped, DigitMap kSingle>
constexpr bool scales_meet_their_columns() {
  for (int lane = 0; lane < kWarpSize; ++lane)
    for (int block = 0; block < kBlocksPerTile; ++block) {
      if (source<kGrouped>(grouped_scale_position(lane, block)) != kMmaN * block + b_element(lane, 0, 0).col)
        return false;
      for (int e = 0; e < 2; ++e) {
        const int column = kMmaN * block + c_element(lane, e).col,
                  position = single_scale_position(lane, block, e);
        if (position != single_scale_position(column)) return false;
        if (position / 32 * 32 + source<kSingle>(position % 32) != column) return false;
      }
    }
  return true;
}
static_assert(scales_meet_their_columns<kMarlinScalesGrouped, kMarlinScalesSingle>());

}  // namespace proof
}  // namespace mpk
