#pragma once
// One constant per layout this project can write. FORMAT.md draws them.

#include "packer/format/digit_map.hpp"

namespace mpk {

/// Weights are packed in tiles of kTileK x kTileN codes; tiles run along n first, then along k. Inside a tile
/// the source index is k * kTileN + n.
inline constexpr int kTileK = 16;
inline constexpr int kTileN = 64;

/// The same for kernels with 8-bit activations: 32 x 32 codes, source index k * kTileA8 + n.
inline constexpr int kTileA8 = 32;

// 4-bit codes, 16-bit activations (D4): 1024 codes, 128 words. Lane L owns words 4L .. 4L+3.
//   nibble    7     6     5     4   |   3     2     1     0       of one word
//   (k, n)  (9,8) (1,8) (9,0) (1,0) | (8,8) (0,8) (8,0) (0,0)     + (2 * (L % 4), L / 4), word w adds n += 16
//   w
// Nibbles s and s+4 leave under one mask as the two halves of a half2: hence k+1 is the slowest nibble bit.
inline constexpr DigitMap kMarlinU4{
    Digit{2, 8 * kTileN}, Digit{2, 8}, Digit{2, kTileN},  // nibble bits 0, 1, 2: k += 8, n += 8, k += 1
    Digit{4, 16},                                         // word: n += 16
    Digit{4, 2 * kTileN}, Digit{8, 1}};                   // lane % 4: k += 2;  lane / 4: n += 1
static_assert(kMarlinU4.size() == kTileK * kTileN && is_permutation<kMarlinU4>());

// 8-bit codes, 16-bit activations (D8): 1024 codes, 256 words. Lane L owns words 8L .. 8L+7.
inline constexpr DigitMap kMarlinU8{
    Digit{2, 8 * kTileN}, Digit{2, kTileN},  // byte bits 0, 1: k += 8, k += 1
    Digit{2, 8},          Digit{4, 16},      // word bit 0: n += 8; word bits 1, 2: n += 16
    Digit{4, 2 * kTileN}, Digit{8, 1}};      // lane % 4: k += 2;  lane / 4: n += 1
static_assert(kMarlinU8.size() == kTileK * kTileN && is_permutation<kMarlinU8>());

// 4-bit codes, 8-bit activations (A8-D4): 1024 codes, 128 words. Lane L owns words 4L .. 4L+3, one per eight
// columns. mma.m16n8k32 wants four consecutive k in a register: nibbles 0, 2, 4, 6, and k + 16 between them.
inline constexpr DigitMap kMarlinA8U4{
    Digit{2, 16 * kTileA8}, Digit{4, kTileA8},  // nibble bit 0: k += 16; bits 1, 2: k += 1
    Digit{4, 8},                                // word: n += 8
    Digit{4, 4 * kTileA8}, Digit{8, 1}};        // lane % 4: k += 4;  lane / 4: n += 1
static_assert(kMarlinA8U4.size() == kTileA8 * kTileA8 && is_permutation<kMarlinA8U4>());

// 8-bit codes, 8-bit activations (A8-D8): 1024 codes, 256 words. Lane L owns words 8L .. 8L+7.
inline constexpr DigitMap kMarlinA8U8{
    Digit{4, kTileA8},                    // byte: k += 1
    Digit{2, 16 * kTileA8}, Digit{4, 8},  // word bit 0: k += 16; word bits 1, 2: n += 8
    Digit{4, 4 * kTileA8}, Digit{8, 1}};  // lane % 4: k += 4;  lane / 4: n += 1
static_assert(kMarlinA8U8.size() == kTileA8 * kTileA8 && is_permutation<kMarlinA8U8>());

// 2:4 sparse, 16-bit activations (S4, S8), over the rows that compression leaves. Weights are the A operand
// of mma.sp.m16n8k32: its rows g and g + 8 are the columns n and n + 4, and a lane's words are four
// neighbouring n.
inline constexpr DigitMap kMarlin24U4{
    Digit{2, 8 * kTileN}, Digit{2, 4}, Digit{2, kTileN},  // nibble bits 0, 1, 2: k += 8, n += 4, k += 1
    Digit{4, 1},                                          // word: n += 1
    Digit{4, 2 * kTileN}, Digit{8, 8}};                   // lane % 4: k += 2;  lane / 4: n += 8
static_assert(kMarlin24U4.size() == kTileK * kTileN && is_permutation<kMarlin24U4>());
inline constexpr DigitMap kMarlin24U8{
    Digit{2, 8 * kTileN}, Digit{2, kTileN},  // byte bits 0, 1: k += 8, k += 1
    Digit{2, 4},          Digit{4, 1},       // word bit 0: n += 4; word bits 1, 2: n += 1
    Digit{4, 2 * kTileN}, Digit{8, 8}};      // lane % 4: k += 2;  lane / 4: n += 8
static_assert(kMarlin24U8.size() == kTileK * kTileN && is_permutation<kMarlin24U8>());

/// Where the positions of the kept codes stand: per 32 rows and 64 columns 128 units of 16 bits, each for 16
/// rows of a column. Source index (16-row half) * kTileN + n.
inline constexpr DigitMap kMarlin24Meta{Digit{2, 4}, Digit{2, kTileN}, Digit{2, 1}, Digit{8, 8}, Digit{2, 2}};
static_assert(kMarlin24Meta.size() == 2 * kTileN && is_permutation<kMarlin24Meta>());

/// Scales of more than one group, per 64 columns: an 8 x 8 transpose.
inline constexpr DigitMap kMarlinScalesGrouped{Digit{8, 8}, Digit{8, 1}};
static_assert(kMarlinScalesGrouped.size() == 64 && is_permutation<kMarlinScalesGrouped>());

/// One scale per column (a single group), per 32 columns.
inline constexpr DigitMap kMarlinScalesSingle{Digit{2, 1}, Digit{4, 8}, Digit{4, 2}};
static_assert(kMarlinScalesSingle.size() == 32 && is_permutation<kMarlinScalesSingle>());

/// Scales of one byte (NVFP4, MX), per 64 columns: as grouped, then the middle two of every four exchanged,
/// so that a kernel's byte permutation leaves two halves of a register.
inline constexpr DigitMap kMarlinScalesQuad{Digit{2, 16}, Digit{2, 8}, Digit{2, 32}, Digit{8, 1}};
static_assert(kMarlinScalesQuad.size() == 64 && is_permutation<kMarlinScalesQuad>());

/// Scales of more than one group of a 2:4 sparse matrix, per 8 columns.
inline constexpr DigitMap kMarlinScalesSparse{Digit{2, 4}, Digit{4, 1}};
static_assert(kMarlinScalesSparse.size() == 8 && is_permutation<kMarlinScalesSparse>());

/// Zero points, as a stream of codes per 64 columns: the order of the scales, and inside a word the order in
/// which the kernel's unpacking gives fields back. 8-bit activations: kMarlinScalesGrouped.
inline constexpr DigitMap kMarlinZerosU4{Digit{4, 16}, Digit{2, 8}, Digit{8, 1}};
static_assert(kMarlinZerosU4.size() == 64 && is_permutation<kMarlinZerosU4>());
inline constexpr DigitMap kMarlinZerosU8 = kMarlinScalesQuad;

}  // namespace mpk
