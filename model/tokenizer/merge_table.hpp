#pragma once
// (left id, right id) -> merge, looked up some ten times per word of every text.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mpk::tok {

struct Merge {
  std::uint32_t rank;   ///< place in the list of merges; lower goes first
  std::int32_t merged;  ///< the id of both together
};

/// A hash table with open addressing, at most half full.
class MergeTable {
 public:
  MergeTable() : MergeTable(0) {}
  explicit MergeTable(std::size_t num_merges) {
    std::size_t num_slots = 16;
    while (num_slots < 2 * num_merges) num_slots *= 2;
    slots_.assign(num_slots, Slot{kEmpty, {}});
  }

  /// At most `num_merges` different pairs. A pair that is there already takes the new value.
  void set(std::int32_t left, std::int32_t right, Merge merge) {
    const std::uint64_t pair = pair_of(left, right);
    slots_[slot_of(pair)] = {pair, merge};
  }
  /// Null if the two do not merge.
  const Merge* find(std::int32_t left, std::int32_t right) const {
    const Slot& slot = slots_[slot_of(pair_of(left, right))];
    return slot.pair == kEmpty ? nullptr : &slot.merge;
  }

 private:
  struct Slot {
    std::uint64_t pair;
    Merge merge;
  };
  static constexpr std::uint64_t kEmpty =
      ~std::uint64_t{0};  // ids are not negative, so no pair looks like this

  static std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t pair) const {
    const std::uint64_t mixed =
        pair * 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio: the high bits are well spread
    for (std::size_t slot = mixed >> 32 & (slots_.size() - 1);; slot = (slot + 1) & (slots_.size() - 1))
      if (slots_[slot].pair == pair || slots_[slot].pair == kEmpty) return slot;
  }

  std::vector<Slot> slots_;
};

}  // namespace mpk::tok
