#pragma once
// A permutation as data. Every permutation of the Marlin family is mixed-radix: write the destination index
// in digits, give each digit a stride in the source, add up. Packer, CPU reference and kernels read one
// constant.

#include <array>
#include <cstddef>
#include <utility>

#ifdef __CUDACC__
#define MPK_HOST_DEVICE __host__ __device__
#else
#define MPK_HOST_DEVICE
#endif

namespace mpk {

struct Digit {
  int extent, stride;
};

template <std::size_t R>
struct DigitMap {
  Digit digit[R];  ///< fastest-moving destination digit first
  static constexpr std::size_t kRank = R;
  constexpr int size() const {
    int n = 1;
    for (Digit d : digit) n *= d.extent;
    return n;
  }
};
template <class... D>
DigitMap(D...) -> DigitMap<sizeof...(D)>;

/// out[destination] = in[source<kMap>(destination)]; strides become immediates.
template <DigitMap kMap>
MPK_HOST_DEVICE constexpr int source(int destination) {
  int src = 0;
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((src += destination % kMap.digit[I].extent * kMap.digit[I].stride, destination /= kMap.digit[I].extent),
     ...);
  }
  (std::make_index_sequence<kMap.kRank>{});
  return src;
}

/// The whole gather as a table: table[destination] = source.
template <DigitMap kMap>
constexpr std::array<int, static_cast<std::size_t>(kMap.size())> gather_table() {
  std::array<int, static_cast<std::size_t>(kMap.size())> table{};
  for (int i = 0; i < kMap.size(); ++i) table[static_cast<std::size_t>(i)] = source<kMap>(i);
  return table;
}

template <DigitMap kMap>
constexpr bool is_permutation() {
  std::array<bool, static_cast<std::size_t>(kMap.size())> seen{};
  for (int src : gather_table<kMap>()) {
    if (src < 0 || src >= kMap.size() || seen[static_cast<std::size_t>(src)]) return false;
    seen[static_cast<std::size_t>(src)] = true;
  }
  return true;
}

}  // namespace mpk
