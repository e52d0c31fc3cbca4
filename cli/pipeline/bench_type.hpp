#pragma once
// What bench and the files it compares with call a kind of layer: "u4b8", or "u4b8-int8" where activations
// have 8 bits.

#include <optional>
#include <string>
#include <vector>

#include "kernels/gemm.hpp"

namespace mpk {

struct BenchType {
  Weight weight = Weight::u4b8;
  std::optional<Activation8> activations8;

  std::string name() const;
  /// The one that artifacts have: INT8 activations one scale per column, 4-bit floats the group of their
  /// kind, all others `asked`.
  std::optional<GroupSize> group_size(std::optional<GroupSize> asked) const;
};

const std::vector<BenchType>& bench_types();
/// nullopt: there is none.
std::optional<BenchType> bench_type_named(const std::string& name);
/// All names, comma separated.
std::string bench_type_names();

}  // namespace mpk
