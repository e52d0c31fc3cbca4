#include "packer/formats/word_fields.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/formats/formats.hpp"
#include "packer/pack.hpp"

namespace mpk::formats {
namespace {

/// Calls work.template operator()<bits>(), for the bits whose legacy fields leave a gap.
template <class Work>
void with_gap_bits(int bits, Work work) {
  switch (bits) {
    case 3:
      return work.template operator()<3>();
    case 5:
      return work.template operator()<5>();
    case 6:
      return work.template operator()<6>();
    case 7:
      return work.template operator()<7>();
    default:
      throw Error{ErrorKind::unsupported, fmt::format("{} bits have no older packing", bits)};
  }
}

constexpr bool leaves_gaps(int bits, WordFields fields) {
  return fields == WordFields::legacy && 32 % bits != 0;
}

void require_rows(std::int64_t words_per_row, std::int64_t first, std::int64_t count, std::size_t bytes) {
  if (first < 0 || count < 1 || static_cast<std::size_t>((first + count) * words_per_row) > bytes / 4)
    throw Error{ErrorKind::bad_input, fmt::format("columns {} to {} of {} words each do not lie in {} bytes",
                                                  first, first + count, words_per_row, bytes)};
}

/// Fields of one row: `count` codes as words. Returns the OR of all codes.
template <int kBits>
unsigned pack_row(const std::uint8_t* codes, std::int64_t count, std::byte* out) {
  constexpr int kFields = 32 / kBits;
  unsigned all = 0;
  for (; count > 0; count -= kFields, codes += kFields, out += 4) {
    std::uint32_t word = 0;
    for (int i = 0; i < std::min<std::int64_t>(kFields, count); ++i) {
      word |= std::uint32_t{codes[i]} << (kBits * i);
      all |= codes[i];
    }
    std::memcpy(out, &word, sizeof word);
  }
  return all;
}

/// The inverse. Returns the OR of all bits that no code owns.
template <int kBits>
std::uint32_t unpack_row(const std::byte* in, std::int64_t count, std::uint8_t* codes) {
  constexpr int kFields = 32 / kBits;
  std::uint32_t rest = 0;
  for (; count > 0; count -= kFields, codes += kFields, in += 4) {
    std::uint32_t word;
    std::memcpy(&word, in, sizeof word);
    for (int i = 0; i < std::min<std::int64_t>(kFields, count); ++i, word >>= kBits)
      codes[i] = static_cast<std::uint8_t>(word & ((1u << kBits) - 1));
    rest |= word;
  }
  return rest;
}

[[noreturn]] void refuse_rest(std::int64_t column) {
  throw Error{ErrorKind::bad_input, fmt::format("row {} has bits set that belong to no code", column)};
}

}  // namespace

void pack_fields(const Codes& codes, int bits, WordFields fields, std::int64_t first_column,
                 std::span<std::byte> words) {
  if (!leaves_gaps(bits, fields))
    return pack_along_k(codes, bits, WordGrid::across(K{codes.rows()}, bits), first_column, words);
  const std::int64_t row_words = num_words(codes.rows(), bits, fields);
  require_rows(row_words, first_column, codes.cols(), words.size());
  with_gap_bits(bits, [&]<int kBits>() {
    unsigned all = 0;
#pragma omp parallel for schedule(static) reduction(| : all)
    for (std::int64_t col = 0; col < codes.cols(); ++col)
      all |= pack_row<kBits>(codes.data() + col * codes.rows(), codes.rows(),
                             words.data() + (first_column + col) * row_words * 4);
    if (all >> kBits != 0)
      throw Error{ErrorKind::bad_input,
                  fmt::format("a code in columns {} to {} is above {}, the largest of {} "
                              "bits",
                              first_column, first_column + codes.cols(), (1 << kBits) - 1, kBits)};
  });
}

void unpack_fields(std::span<const std::byte> words, int bits, WordFields fields, std::int64_t first_column,
                   Codes& codes) {
  const std::int64_t row_words = num_words(codes.rows(), bits, fields);
  require_rows(row_words, first_column, codes.cols(), words.size());
  if (!leaves_gaps(bits, fields)) {
    unpack_along_k(words, bits, WordGrid::across(K{codes.rows()}, bits), first_column, codes);
    const int used = static_cast<int>(codes.rows() * bits % 32);  // of the last word
    for (std::int64_t col = 0; used != 0 && col < codes.cols(); ++col)
      if (load_word(words, (first_column + col + 1) * row_words - 1) >> used != 0)
        refuse_rest(first_column + col);
    return;
  }
  with_gap_bits(bits, [&]<int kBits>() {
    std::uint32_t rest = 0;
#pragma omp parallel for schedule(static) reduction(| : rest)
    for (std::int64_t col = 0; col < codes.cols(); ++col)
      rest |= unpack_row<kBits>(words.data() + (first_column + col) * row_words * 4, codes.rows(),
                                codes.data() + col * codes.rows());
    if (rest == 0) return;
    for (std::int64_t col = 0; col < codes.cols(); ++col)
      if (unpack_row<kBits>(words.data() + (first_column + col) * row_words * 4, codes.rows(),
                            codes.data() + col * codes.rows()) != 0)
        refuse_rest(first_column + col);
  });
}

}  // namespace mpk::formats
