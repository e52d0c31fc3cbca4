#pragma once
// One constant per layout this project can write. FORMAT.md draws them.

#include "packer/format/digit_map.hpp"

namespace mpk {

/// Weights are packed in tiles of kTileK x kTileN codes; tiles run along n first, then along k. Inside a tile
/// the source index is k * kTileN + n.
inline constexpr int kTileK = 16;
inline constexpr int kTileN = 64;

// 4-bit codes, 16-bit activations (D4): 1024 codes, 128 words. Lane L owns words 4L .. 4L+3.
//   nibble    7     6     5     4   |   3     2     1     0       of one word
//   (k, n)  (9,8) (1,8) (9,0) (1,0) | (8,8) (0,8) (8,0) (0,0)     + (2 * (L % 4), L / 4), word w adds n += 16 w
// Nibbles s and s+4 leave under one mask as the two halves of a half2: hence k+1 is the slowest nibble bit.
inline constexpr DigitMap kMarlinU4{
    Digit{2, 8 * kTileN}, Digit{2, 8}, Digit{2, kTileN},  // nibble bits 0, 1, 2: k += 8, n += 8, k += 1
    Digit{4, 16},                                         // word: n += 16
    Digit{4, 2 * kTileN}, Digit{8, 1}};                   // lane % 4: k += 2;  lane / 4: n += 1
static_assert(kMarlinU4.size() == kTileK * kTileN && is_permutation<kMarlinU4>());

// 8-bit codes, 16-bit activations (D8): 1024 codes, 256 words. Lane L owns words 8L .. 8L+7.
inline constexpr DigitMap kMarlinU8{
    Digit{2, 8 * kTileN}, Digit{2, kTileN},  // byte bits 0, 1: k += 8, k += 1
    Digit{2, 8}, Digit{4, 16},               // word bit 0: n += 8; word bits 1, 2: n += 16
    Digit{4, 2 * kTileN}, Digit{8, 1}};      // lane % 4: k += 2;  lane / 4: n += 1
static_assert(kMarlinU8.size() == kTileK * kTileN && is_permutation<kMarlinU8>());

/// Scales of more than one group, per 64 columns: an 8 x 8 transpose.
inline constexpr DigitMap kMarlinScalesGrouped{Digit{8, 8}, Digit{8, 1}};
static_assert(kMarlinScalesGrouped.size() == 64 && is_permutation<kMarlinScalesGrouped>());

/// One scale per column (a single group), per 32 columns.
inline constexpr DigitMap kMarlinScalesSingle{Digit{2, 1}, Digit{4, 8}, Digit{4, 2}};
static_assert(kMarlinScalesSingle.size() == 32 && is_permutation<kMarlinScalesSingle>());

}  // namespace mpk
