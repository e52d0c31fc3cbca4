// Where each code sits, against drawings from (k, n) to the bits; packer/ goes from the word to its source.

#include <cstring>
#include <omp.h>
#include <vector>

#include <fmt/format.h>

#include "packer/pack.hpp"
#include "tests/packer/random_matrix.hpp"
#include "tests/packer/whole.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

using Words = std::vector<std::uint32_t>;

/// Through a buffer that starts at an odd address.
template <class Pack>
Words packed(Pack pack, const Codes& codes, ScalarType type) {
  const std::size_t size = packed_bytes(K{codes.rows()}, N{codes.cols()}, type);
  std::vector<std::byte> bytes(size + 1);
  pack(codes, type, std::span{bytes}.subspan(1));
  Words words(size / 4);
  std::memcpy(words.data(), bytes.data() + 1, size);
  return words;
}
template <class Unpack>
Codes unpacked(Unpack unpack, const Words& words, K k, N n, ScalarType type) {
  std::vector<std::byte> bytes(words.size() * 4 + 1);
  std::memcpy(bytes.data() + 1, words.data(), words.size() * 4);
  return unpack(std::span<const std::byte>{bytes}.subspan(1), k, n, type);
}

// ---- the drawings
// --------------------------------------------------------------------------------------------

/// The mma.m16n8k16 B fragment: lane 4 g + t holds column g of rows 2t, 2t+1 and 2t+8, 2t+9.
int lane_of(int row, int col) {
  return col % 8 * 4 + row % 8 / 2;
}

unsigned marlin_u4_at(const Words& words, N n, int row, int col) {
  const int nibble = row % 2 * 4 + col % 16 / 8 * 2 + row % 16 / 8;
  const auto word = row / 16 * n.value * 2 + col / 64 * 128 + lane_of(row, col) * 4 + col % 64 / 16;
  return (words.at(static_cast<std::size_t>(word)) >> (4 * nibble)) & 15u;
}

unsigned marlin_u8_at(const Words& words, N n, int row, int col) {
  const int byte = row % 16 / 8 + row % 2 * 2;
  const auto word =
      row / 16 * n.value * 4 + col / 64 * 256 + lane_of(row, col) * 8 + col % 64 / 16 * 2 + col % 16 / 8;
  return (words.at(static_cast<std::size_t>(word)) >> (8 * byte)) & 255u;
}

unsigned gptq_at(const Words& words, N n, int bits, int row, int col) {
  const std::int64_t bit = std::int64_t{row} * bits;  // of the stream down column `col`
  return (words.at(static_cast<std::size_t>(bit / 32 * n.value + col)) >> (bit % 32)) & ((1u << bits) - 1);
}

struct Place {
  Eigen::Index k, n;
};
template <class CodeAt>
std::optional<Place> first_mismatch(const Codes& codes, CodeAt code_at) {
  for (Eigen::Index n = 0; n < codes.cols(); ++n)
    for (Eigen::Index k = 0; k < codes.rows(); ++k)
      if (code_at(static_cast<int>(k), static_cast<int>(n)) != codes(k, n)) return Place{k, n};
  return std::nullopt;
}

}  // namespace

TEST_CASE("each code sits where the fragment drawing puts it", "[packer]") {
  const K k{GENERATE(16, 32, 144, 256, 272)};
  const N n{GENERATE(64, 128, 192, 320)};
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  CAPTURE(k.value, n.value, type.bits);
  const Codes codes = random_codes(k, n, type, seed());
  const Words words = packed(whole_marlin, codes, type);
  const auto code_at = type.bits == 4 ? marlin_u4_at : marlin_u8_at;
  CHECK_FALSE(first_mismatch(codes, [&](int row, int col) { return code_at(words, n, row, col); }));
  CHECK(unpacked(from_marlin, words, k, n, type) == codes);
}

TEST_CASE("a GPTQ column is one stream down k", "[packer]") {
  const K k{GENERATE(32, 64, 160, 256, 288)};
  const N n{GENERATE(32, 96, 224)};
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  CAPTURE(k.value, n.value, type.bits);
  const Codes codes = random_codes(k, n, type, seed());
  const Words words = packed(whole_gptq, codes, type);
  CHECK_FALSE(
      first_mismatch(codes, [&](int row, int col) { return gptq_at(words, n, type.bits, row, col); }));
  CHECK(unpacked(from_gptq, words, k, n, type) == codes);
}

TEST_CASE("random shapes come back", "[packer]") {
  std::mt19937 random{seed()};
  for (int i = 0; i < 40; ++i) {
    const ScalarType type = i % 2 ? kU4B8 : kU8B128;
    const K k{16 * (1 + static_cast<int>(random() % 40))};
    const N n{64 * (1 + static_cast<int>(random() % 9))};
    CAPTURE(k.value, n.value, type.bits);
    const Codes codes = random_codes(k, n, type, random());
    REQUIRE(unpacked(from_marlin, packed(whole_marlin, codes, type), k, n, type) == codes);
    if (k.value % 32 == 0) REQUIRE(unpacked(from_gptq, packed(whole_gptq, codes, type), k, n, type) == codes);
  }
}

TEST_CASE("packing is a bijection on bits: any words come back from their codes", "[packer]") {
  const K k{48};
  const N n{192};
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  std::mt19937 random{seed()};
  Words words(packed_bytes(k, n, type) / 4);
  for (std::uint32_t& word : words) word = random();
  CHECK(packed(whole_marlin, unpacked(from_marlin, words, k, n, type), type) == words);
}

TEST_CASE("the number of threads does not change a byte", "[packer]") {
  const ScalarType type = GENERATE(kU4B8, kU8B128);
  const Codes codes = random_codes(K{1040}, N{448}, type, seed());
  const Codes tall = random_codes(K{1056}, N{416}, type, seed());
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const Words marlin = packed(whole_marlin, codes, type), gptq = packed(whole_gptq, tall, type);
  for (int count : {2, 3, 7}) {
    omp_set_num_threads(count);
    CHECK(packed(whole_marlin, codes, type) == marlin);
    CHECK(packed(whole_gptq, tall, type) == gptq);
    CHECK(unpacked(from_marlin, marlin, K{1040}, N{448}, type) == codes);
    CHECK(unpacked(from_gptq, gptq, K{1056}, N{416}, type) == tall);
  }
  omp_set_num_threads(threads);
}

TEST_CASE("a code above the maximum is refused, never masked", "[packer]") {
  Codes codes = random_codes(K{320}, N{128}, kU4B8, seed());
  const auto [k, n] = GENERATE(table<int, int>({{0, 0}, {319, 127}, {255, 63}, {256, 64}}));
  codes(k, n) = static_cast<std::uint8_t>(GENERATE(16, 0x80, 255));
  const std::string where = fmt::format("({}, {})", k, n);
  const std::size_t size = packed_bytes(K{320}, N{128}, kU4B8);
  std::vector<std::byte> out(size);
  CHECK(mentions(error_of(ErrorKind::bad_input, [&] { whole_marlin(codes, kU4B8, out); }), where));
  CHECK(mentions(error_of(ErrorKind::bad_input, [&] { whole_gptq(codes, kU4B8, out); }), where));
}

TEST_CASE("of several codes above the maximum the first in memory is named", "[packer]") {
  Codes codes = random_codes(K{1024}, N{128}, kU4B8, seed());
  codes(5, 100) = codes(1000, 3) = codes(7, 120) = 77;
  std::vector<std::byte> out(packed_bytes(K{1024}, N{128}, kU4B8));
  CHECK(mentions(error_of(ErrorKind::bad_input, [&] { whole_marlin(codes, kU4B8, out); }), "(1000, 3)"));
}

TEST_CASE("sizes and types without a layout are refused", "[packer]") {
  struct Case {
    int k, n;
    ScalarType type;
    const char* says;
  };
  const auto marlin = GENERATE(values<Case>({{8, 64, kU4B8, "K = 8"},
                                             {24, 64, kU8B128, "K = 24"},
                                             {16, 32, kU4B8, "N = 32"},
                                             {16, 96, kU8B128, "N = 96"},
                                             {0, 64, kU4B8, "K = 0"},
                                             {16, 0, kU4B8, "N = 0"},
                                             {16, 64, {2, 2}, "2-bit"}}));
  Codes codes = Codes::Zero(marlin.k, marlin.n);
  std::vector<std::byte> bytes(packed_bytes(K{marlin.k}, N{marlin.n}, marlin.type));
  const auto packs = [&] { whole_marlin(codes, marlin.type, bytes); };
  const auto unpacks = [&] { from_marlin(bytes, K{marlin.k}, N{marlin.n}, marlin.type); };
  CHECK(mentions(error_of(ErrorKind::unsupported, packs), marlin.says));
  CHECK(mentions(error_of(ErrorKind::unsupported, unpacks), marlin.says));
}

TEST_CASE("buffers have their exact size, streams fit into theirs", "[packer]") {
  std::vector<std::byte> bytes(16 * 32 / 2);
  error_of(ErrorKind::bad_input, [&] { whole_gptq(Codes::Zero(32, 33), kU4B8, bytes); });
  error_of(ErrorKind::bad_input, [&] { from_gptq(bytes, K{33}, N{32}, kU4B8); });
  error_of(ErrorKind::bad_input, [&] { whole_marlin(Codes::Zero(16, 64), kU4B8, bytes); });
  error_of(ErrorKind::bad_input, [&] { from_marlin(bytes, K{16}, N{64}, kU4B8); });
}

TEST_CASE("a column's stream holds any number of bits and any number of rows, in either direction",
          "[packer]") {
  const int bits = GENERATE(2, 3, 4, 5, 6, 7, 8);
  const K k{GENERATE(1, 31, 33, 64, 100, 256, 300)};
  const N n{GENERATE(1, 65, 130)};
  const bool down = GENERATE(false, true);
  CAPTURE(bits, k.value, n.value, down);
  const Codes codes = random_codes(k, n, unsigned_integer(bits), seed());
  const WordGrid grid = down ? WordGrid::down(n) : WordGrid::across(k, bits);
  const std::int64_t length = WordGrid::words_per_column(k, bits);
  Words words(static_cast<std::size_t>(length * n.value));
  pack_along_k(codes, bits, grid, 0, std::as_writable_bytes(std::span{words}));
  std::int64_t wrong = 0;
  for (std::int64_t col = 0; col < n.value; ++col) {
    Words stream;
    for (std::int64_t i = 0; i < length; ++i)
      stream.push_back(words[static_cast<std::size_t>(i * grid.row_stride + col * grid.column_stride)]);
    for (std::int64_t row = 0; row < k.value; ++row)
      wrong += stream_element(std::as_bytes(std::span{stream}), row, bits) != codes(row, col);
  }
  CHECK(wrong == 0);
  Codes back(k.value, n.value);
  unpack_along_k(std::as_bytes(std::span{words}), bits, grid, 0, back);
  CHECK(back == codes);
}

TEST_CASE("slabs of columns make the bytes of the whole", "[packer]") {
  const Codes codes = random_codes(K{288}, N{384}, kU4B8, seed());
  std::vector<std::byte> whole(packed_bytes(K{288}, N{384}, kU4B8)), slabs(whole.size());
  const auto by_slabs = [&](auto pack) {
    std::ranges::fill(slabs, std::byte{});
    for (std::int64_t first : {256, 0, 128}) pack(Codes{codes.middleCols(first, 128)}, first);
    CHECK(slabs == whole);
  };
  pack_marlin(codes, kU4B8, {N{384}}, whole);
  by_slabs([&](const Codes& some, std::int64_t first) { pack_marlin(some, kU4B8, {N{384}, first}, slabs); });
  pack_along_k(codes, 4, WordGrid::down(N{384}), 0, whole);
  by_slabs([&](const Codes& some, std::int64_t first) {
    pack_along_k(some, 4, WordGrid::down(N{384}), first, slabs);
  });
  pack_along_k(codes, 4, WordGrid::across(K{288}, 4), 0, whole);
  by_slabs([&](const Codes& some, std::int64_t first) {
    pack_along_k(some, 4, WordGrid::across(K{288}, 4), first, slabs);
  });
}
