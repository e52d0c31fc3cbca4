// Index arithmetic of the device code, on the CPU. That packed words are B fragments and permuted scales meet
// their columns is proven in fragment.cuh when it compiles.

#include <set>
#include <utility>

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

TEST_CASE("shared memory is a bijection without bank conflicts", "[kernels]") {
  check_activations<8>(64);
  check_activations<16>(32);
  check_weights<4>();
  check_weights<8>();
}
