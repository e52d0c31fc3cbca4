#include "cli/pipeline/bench_type.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace mpk {

std::string BenchType::name() const {
  return activations8 ? fmt::format("{}-{}", name_of(weight), name_of(*activations8)) : name_of(weight);
}

std::optional<GroupSize> BenchType::group_size(std::optional<GroupSize> asked) const {
  if (weight == Weight::nvfp4) return GroupSize{16};
  if (weight == Weight::mxfp4) return GroupSize{32};
  return activations8 == Activation8::int8 ? std::nullopt : asked;
}

const std::vector<BenchType>& bench_types() {
  static const std::vector<BenchType> all = [] {
    std::vector<BenchType> types;
    for (const Weight weight : kWeights) types.push_back({weight, std::nullopt});
    for (const Weight weight : {Weight::u4b8, Weight::u4, Weight::u8b128})
      types.push_back({weight, Activation8::int8});
    for (const Weight weight : {Weight::u4b8, Weight::u4, Weight::mxfp4})
      types.push_back({weight, Activation8::e4m3});
    return types;
  }();
  return all;
}

std::optional<BenchType> bench_type_named(const std::string& name) {
  const auto found = std::ranges::find(bench_types(), name, &BenchType::name);
  return found == bench_types().end() ? std::nullopt : std::optional{*found};
}

std::string bench_type_names() {
  std::string names;
  for (const BenchType& type : bench_types())
    names += fmt::format("{}{}", names.empty() ? "" : ", ", type.name());
  return names;
}

}  // namespace mpk
