#pragma once
// Integers that know what they count, so that a group size cannot be passed for a number of groups.

#include <compare>
#include <cstdint>

namespace mpk {

template <class Tag>
struct Count {
  std::int64_t value = 0;
  constexpr Count() = default;
  constexpr explicit Count(std::int64_t v) : value{v} {}
  friend constexpr auto operator<=>(Count, Count) = default;
};

using K = Count<struct InputFeatures>;            ///< reduction axis of a linear layer
using N = Count<struct OutputFeatures>;           ///< outputs of a linear layer
using M = Count<struct ActivationRows>;           ///< tokens
using GroupSize = Count<struct WeightsPerScale>;  ///< consecutive k that share a scale
using Groups = Count<struct ScalesPerColumn>;     ///< scales of one output column

constexpr bool divides(GroupSize g, K k) {
  return g.value > 0 && k.value % g.value == 0;
}
constexpr Groups operator/(K k, GroupSize g) {
  return Groups{k.value / g.value};
}  // k / n does not compile

}  // namespace mpk
