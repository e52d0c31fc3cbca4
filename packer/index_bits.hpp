#pragma once
// A permutation of the bits of an index, carried out on 128 bytes in eight registers. Every layout of the
// Marlin family is one: mixed radix whose digits are powers of two. The shuffles are worked out from the
// layout by the compiler, which turns them into the machine's own (pshufb, punpck) or, without such, into
// plain moves.

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace mpk {

inline constexpr int kLaneBits = 4;  ///< bits 0 to 3 of an index: which byte of a register
inline constexpr int kRegisterBits = 3,
                     kIndexBits = kLaneBits + kRegisterBits;  ///< the others: which register
inline constexpr int kLanes = 1 << kLaneBits, kRegisters = 1 << kRegisterBits;

/// Bit i of the target's index is bit [i] of the source's.
using IndexBits = std::array<int, kIndexBits>;

constexpr bool is_permutation(const IndexBits& bits) {
  unsigned seen = 0;
  for (int bit : bits) seen |= bit >= 0 && bit < kIndexBits ? 1u << bit : 0;
  return seen == (1u << kIndexBits) - 1;
}

constexpr IndexBits inverse(const IndexBits& bits) {
  IndexBits back{};
  for (int i = 0; i < kIndexBits; ++i) back[static_cast<std::size_t>(bits[static_cast<std::size_t>(i)])] = i;
  return back;
}

constexpr int source_index(const IndexBits& bits, int target) {
  int index = 0;
  for (int i = 0; i < kIndexBits; ++i) index |= (target >> i & 1) << bits[static_cast<std::size_t>(i)];
  return index;
}

using ByteRegister = std::uint8_t __attribute__((vector_size(kLanes)));
using Registers = std::array<ByteRegister, kRegisters>;

/// The steps. First every register is sorted: bits that stay among the lanes in the order of the target,
/// above them those that leave, the first to leave on top. Then each bit that enters from the register number
/// is pushed in at its place, by interleaving the two registers it tells apart, and takes the top bit's place
/// there.
struct ShufflePlan {
  struct Push {
    int lane_bit, register_bit;
  };
  std::array<int, kLanes> sorted{};  ///< lane -> lane before
  std::array<Push, kRegisterBits> pushes{};
  int num_pushes = 0;
  std::array<int, kRegisters> place{};  ///< target register -> where it stands at the end

  constexpr explicit ShufflePlan(const IndexBits& bits) {
    std::array<int, kLaneBits> lane{};        // lane bit -> bit of the source
    std::array<int, kRegisterBits> number{};  // register bit -> bit of the source
    for (int i = 0; i < kRegisterBits; ++i) number[i] = kLaneBits + i;
    int count = 0;
    unsigned stays = 0;
    for (int i = 0; i < kLaneBits; ++i)
      if (bits[i] < kLaneBits) {
        lane[count++] = bits[i];
        stays |= 1u << bits[i];
      } else {
        pushes[num_pushes++] = {i, bits[i] - kLaneBits};
      }
    for (int bit = 0; bit < kLaneBits; ++bit)
      if ((stays >> bit & 1) == 0) lane[count++] = bit;
    for (int to = 0; to < kLanes; ++to)
      for (int i = 0; i < kLaneBits; ++i) sorted[to] |= (to >> i & 1) << lane[i];
    for (int p = 0; p < num_pushes; ++p) number[pushes[p].register_bit] = lane[kLaneBits - 1 - p];
    for (int to = 0; to < kRegisters; ++to)
      for (int i = 0; i < kRegisterBits; ++i)
        for (int slot = 0; slot < kRegisterBits; ++slot)
          if (number[slot] == bits[kLaneBits + i]) place[to] |= (to >> i & 1) << slot;
  }
};

/// One of the two results of interleaving registers in runs of 2^lane_bit bytes: where lane `to` comes from,
/// lanes of the second register counted from kLanes.
constexpr int interleaved(int to, int lane_bit, int half) {
  const int below = to & ((1 << lane_bit) - 1), above = to >> (lane_bit + 1) << lane_bit;
  return (to >> lane_bit & 1) * kLanes + half * (kLanes / 2) + above + below;
}

template <IndexBits kBits>
inline constexpr ShufflePlan kShufflePlan{kBits};

template <IndexBits kBits, int kPush>
inline void push_bit(Registers& r) {
  constexpr ShufflePlan::Push push = kShufflePlan<kBits>.pushes[kPush];
  for (int i = 0; i < kRegisters; ++i) {
    const int other = i | 1 << push.register_bit;
    if (other == i) continue;
    const ByteRegister a = r[i], b = r[other];
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      r[i] = __builtin_shufflevector(a, b, interleaved(I, push.lane_bit, 0)...);
      r[other] = __builtin_shufflevector(a, b, interleaved(I, push.lane_bit, 1)...);
    }
    (std::make_index_sequence<kLanes>{});
  }
}

/// target[i] = r[source_index(kBits, i)], bytes counted over all registers.
template <IndexBits kBits>
inline Registers shuffle(Registers r) {
  static_assert(is_permutation(kBits));
  constexpr const ShufflePlan& plan = kShufflePlan<kBits>;
  for (ByteRegister& x : r) [&]<std::size_t... I>(std::index_sequence<I...>) {
      x = __builtin_shufflevector(x, x, plan.sorted[I]...);
    }
  (std::make_index_sequence<kLanes>{});
  [&]<std::size_t... P>(std::index_sequence<P...>) {
    (push_bit<kBits, static_cast<int>(P)>(r), ...);
  }
  (std::make_index_sequence<static_cast<std::size_t>(plan.num_pushes)>{});
  Registers target;
  for (int i = 0; i < kRegisters; ++i) target[i] = r[plan.place[i]];
  return target;
}

}  // namespace mpk
