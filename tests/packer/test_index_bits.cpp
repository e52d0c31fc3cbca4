// The shuffle that every Marlin tile goes through, against the definition of a permutation of index bits.

#include <cstring>
#include <numeric>

#include "packer/tiles.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

namespace {

using Bytes = std::array<std::uint8_t, kLanes * kRegisters>;

Bytes counted() {
  Bytes bytes;
  std::iota(bytes.begin(), bytes.end(), std::uint8_t{0});
  return bytes;
}

template <IndexBits kBits>
Bytes shuffled(const Bytes& from) {
  Registers registers;
  std::memcpy(registers.data(), from.data(), sizeof registers);
  registers = shuffle<kBits>(registers);
  Bytes to;
  std::memcpy(to.data(), registers.data(), sizeof registers);
  return to;
}

template <IndexBits... kBits>
struct Cases {};

template <IndexBits kBits>
void check_case() {
  const Bytes from = counted(), to = shuffled<kBits>(from);
  for (int i = 0; i < kLanes * kRegisters; ++i) {
    int index = 0;  // the definition, once more
    for (int bit = 0; bit < kIndexBits; ++bit)
      if ((i >> bit & 1) != 0) index += 1 << kBits[static_cast<std::size_t>(bit)];
    CAPTURE(i);
    CHECK(to[static_cast<std::size_t>(i)] == index);
  }
  CHECK(shuffled<inverse(kBits)>(to) == from);
}

template <IndexBits... kBits>
void check(Cases<kBits...>) {
  (check_case<kBits>(), ...);
}

}  // namespace

TEST_CASE("a shuffle moves every byte to where the bits of its index go", "[packer]") {
  // No bit enters the lanes, one, two or all three; they enter at every place and in every order.
  check(Cases<IndexBits{0, 1, 2, 3, 4, 5, 6}, IndexBits{3, 2, 1, 0, 6, 5, 4}, IndexBits{4, 1, 2, 3, 0, 5, 6},
              IndexBits{0, 1, 2, 6, 5, 4, 3}, IndexBits{3, 4, 0, 5, 6, 1, 2}, IndexBits{6, 5, 4, 3, 2, 1, 0},
              IndexBits{6, 2, 4, 5, 1, 0, 3}, IndexBits{1, 5, 3, 0, 4, 2, 6}, IndexBits{5, 6, 0, 4, 3, 1, 2},
              IndexBits{4, 6, 5, 2, 3, 0, 1}, IndexBits{2, 6, 4, 5, 0, 3, 1}>{});
}

TEST_CASE("codes go into words and come back", "[packer]") {
  Registers codes;
  Bytes bytes = counted();
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(byte * 7 % 16);
  std::memcpy(codes.data(), bytes.data(), sizeof codes);
  std::array<std::byte, sizeof codes> words{};
  store_codes<4>(codes, words.data());
  for (std::size_t i = 0; i < bytes.size(); ++i)
    CHECK((static_cast<unsigned>(words[i / 2]) >> (i % 2 * 4) & 15u) == bytes[i]);
  const Registers back = load_codes<4>(words.data());
  CHECK(std::memcmp(back.data(), codes.data(), sizeof codes) == 0);
}
