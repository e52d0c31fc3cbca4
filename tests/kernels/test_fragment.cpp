// Index arithmetic of the device code, on the CPU. That packed words are B fragments and permuted scales meet
// their columns is proven in fragment.cuh when it compiles.

#include <set>
#include <utility>

#include "kernels/device/decode8.cuh"
#include "kernels/device/fragment.cuh"
#include "kernels/device/swizzle.cuh"
#include "tests/support/catch.hpp"

using namespace mpk;

namespace {

/// One 128-bit shared memory access of eight lanes has no conflicts if it touches every 16-byte column.
template <class Chunk>
bool conflict_free(Chunk chunk) {
  std::set<int> columns;
  for (int lane = 0; lane < 8; ++lane) columns.insert(chunk(lane) % 8);
  return columns.size() == 8;
}

template <int kChunks>
void check_activations(int rows) {
  CAPTURE(kChunks);
  std::set<int> seen;
  for (int row = 0; row < rows; ++row)
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const int place = activation_chunk<kChunks>(row, chunk);
      REQUIRE((place >= 0 && place < rows * kChunks));
      seen.insert(place);
    }
  REQUIRE(seen.size() == static_cast<std::size_t>(rows * kChunks));
  for (int row = 0; row < rows; ++row)
    for (int chunk = 0; chunk < kChunks; chunk += 8)
      REQUIRE(
          conflict_free([&](int lane) { return activation_chunk<kChunks>(row, chunk + lane); }));  // the copy
  for (int row = 0; row < rows; row += 8)
    for (int chunk = 0; chunk < kChunks; ++chunk)
      REQUIRE(
          conflict_free([&](int lane) { return activation_chunk<kChunks>(row + lane, chunk); }));  // ldmatrix
}

template <int kBits>
void check_weights() {
  constexpr int kPerLane = kBits / 4, kChunks = 32 * kPerLane;
  CAPTURE(kBits);
  std::set<int> seen;
  for (int chunk = 0; chunk < kChunks; ++chunk) seen.insert(weight_chunk<kBits>(chunk));
  REQUIRE(seen.size() == static_cast<std::size_t>(kChunks));
  REQUIRE((*seen.begin() == 0 && *seen.rbegin() == kChunks - 1));
  for (int chunk = 0; chunk < kChunks; chunk += 8)
    REQUIRE(conflict_free([&](int lane) { return weight_chunk<kBits>(chunk + lane); }));
  for (int first_lane = 0; first_lane < 32; first_lane += 8)
    for (int c = 0; c < kPerLane; ++c)
      REQUIRE(
          conflict_free([&](int lane) { return weight_chunk<kBits>((first_lane + lane) * kPerLane + c); }));
}

}  // namespace

TEST_CASE("the lanes of a warp hold every element of a fragment once", "[kernels]") {
  std::set<std::pair<int, int>> a, b, c;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    a.insert({a_row_of_lane(lane).row, a_row_of_lane(lane).col});
    for (int r = 0; r < 2; ++r)
      for (int e = 0; e < 2; ++e) b.insert({b_element(lane, r, e).row, b_element(lane, r, e).col});
    for (int i = 0; i < 4; ++i) c.insert({c_element(lane, i).row, c_element(lane, i).col});
  }
  REQUIRE(a.size() == 16 * 2);
  REQUIRE(b.size() == 16 * 8);
  REQUIRE(c.size() == 16 * 8);
  REQUIRE(*b.rbegin() == std::pair{15, 7});
  REQUIRE(*c.rbegin() == std::pair{15, 7});
}

TEST_CASE("a lane's codes are the drawing in FORMAT.md", "[kernels]") {
  // Word 0 of lane 5: k0 = 2, n0 = 1. Nibbles 0 .. 7 hold k + 0 8 0 8 1 9 1 9, n + 0 0 8 8 0 0 8 8.
  const int lane = 5, word = lane * 4;
  REQUIRE(code_position<4>(lane, 0, 0, 0) == word * 8 + 0);
  REQUIRE(code_position<4>(lane, 0, 1, 0) == word * 8 + 1);
  REQUIRE(code_position<4>(lane, 1, 0, 0) == word * 8 + 2);
  REQUIRE(code_position<4>(lane, 1, 1, 1) == word * 8 + 7);
  REQUIRE(code_position<4>(lane, 7, 0, 0) == (word + 3) * 8 + 2);
  REQUIRE(code_position<8>(lane, 3, 1, 1) == (lane * 8 + 3) * 4 + 3);
}

TEST_CASE("a lane's codes for 8-bit activations are the drawing in FORMAT.md", "[kernels][a8]") {
  // Lane 5: k0 = 4, n0 = 1. Nibbles 0 .. 7 of a word hold k + 0 16 1 17 2 18 3 19.
  REQUIRE(code_position8<4>(5, 0, 0, 0) == 5 * 4 * 8);
  REQUIRE(code_position8<4>(5, 0, 1, 0) == 5 * 4 * 8 + 1);
  REQUIRE(code_position8<4>(5, 3, 1, 3) == (5 * 4 + 3) * 8 + 7);
  REQUIRE(code_position8<8>(5, 2, 1, 3) == (5 * 8 + 5) * 4 + 3);
  std::set<std::pair<int, int>> b;
  for (int lane = 0; lane < kWarpSize; ++lane)
    for (int r = 0; r < 2; ++r)
      for (int e = 0; e < 4; ++e) b.insert({b_element8(lane, r, e).row, b_element8(lane, r, e).col});
  REQUIRE(b.size() == 32 * 8);
  REQUIRE(*b.rbegin() == std::pair{31, 7});
}

namespace {

int int8_at(std::uint32_t word, int byte) {
  return static_cast<std::int8_t>(word >> 8 * byte);
}
/// E4M3 in units of 2^-9, by its definition.
int e4m3_at(std::uint32_t word, int byte) {
  const int bits = static_cast<int>(word >> 8 * byte & 0xff), exponent = bits >> 3 & 15, mantissa = bits & 7;
  const int magnitude = exponent == 0 ? mantissa : (8 + mantissa) << (exponent - 1);
  return bits & 0x80 ? -magnitude : magnitude;
}

/// Every byte of codes in every place, the others 0x00 or 0xff: `value(code, zero)` in the low half goes to
/// register 0, in the high half to register 1.
template <Weight kWeight, Activation8 kActivations, class Value>
void check_decode8(Value value) {
  CAPTURE(name_of(kWeight), name_of(kActivations));
  const int zeros = kWeight == Weight::u4 ? 16 : 1;
  for (int zero = 0; zero < zeros; ++zero)
    for (std::uint32_t byte = 0; byte < 256; ++byte)
      for (int place = 0; place < 4; ++place)
        for (const std::uint32_t others : {0u, ~0u}) {
          const std::uint32_t word = (others & ~(0xffu << 8 * place)) | byte << 8 * place;
          const std::uint32_t words[] = {~word, word, ~word, ~word};  // the other n-blocks hold other codes
          std::uint32_t out[2];
          decode8<kWeight, kActivations>(words, 1, out, static_cast<std::uint32_t>(zero) * 0x01010101u);
          for (int r = 0; r < 2; ++r) {
            const int code = static_cast<int>(byte >> 4 * r & 15);
            const int actual =
                kActivations == Activation8::int8 ? int8_at(out[r], place) : e4m3_at(out[r], place);
            if (actual != value(code, zero))
              FAIL_CHECK(code << " with zero point " << zero << ": " << actual);
          }
        }
}

}  // namespace

TEST_CASE("four codes become four bytes at a time, exactly", "[kernels][a8]") {
  check_decode8<Weight::u4b8, Activation8::int8>([](int code, int) {
    return static_cast<int>(kDecoded8<Weight::u4b8, Activation8::int8>) * (code - 8);
  });
  check_decode8<Weight::u4, Activation8::int8>([](int code, int zero) { return code - zero; });
  // The inverse of FORMAT.md's recoding: code c' is c - z from z on, else 15 - c.
  const auto recoded = [](int stored, int zero) { return stored + zero < 16 ? stored : 15 - stored - zero; };
  check_decode8<Weight::u4b8, Activation8::e4m3>([&](int stored, int) { return recoded(stored, 8); });
  check_decode8<Weight::u4, Activation8::e4m3>(recoded);
  check_decode8<Weight::mxfp4, Activation8::e4m3>([](int code, int) {
    constexpr int kHalves[] = {0, 1, 2, 3, 4, 6, 8, 12};  // e2m1 in halves; a half times 2^-6 is 4 units
    return (code & 8 ? -4 : 4) * kHalves[code & 7];
  });
  const std::uint32_t words[] = {0, 0, 0x80ff007f, 0x01020304, 0, 0, 0, 0};
  std::uint32_t out[2];
  decode8<Weight::u8b128, Activation8::int8>(words, 1, out);
  const int first[] = {-1, -128, 127, 0}, second[] = {4 - 128, 3 - 128, 2 - 128, 1 - 128};
  for (int byte = 0; byte < 4; ++byte) {
    REQUIRE(int8_at(out[0], byte) == first[byte]);
    REQUIRE(int8_at(out[1], byte) == second[byte]);
  }
  for (int block = 0; block < 8; ++block)
    REQUIRE(decode_zero8(0x76543210u, block) == static_cast<std::uint32_t>(block) * 0x01010101u);
}

TEST_CASE("shared memory is a bijection without bank conflicts", "[kernels]") {
  check_activations<8>(64);
  check_activations<16>(32);
  check_weights<4>();
  check_weights<8>();
}
