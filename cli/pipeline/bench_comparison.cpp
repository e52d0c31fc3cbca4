#include "cli/pipeline/bench_comparison.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "cli/pipeline/bench_type.hpp"
#include "packer/format/error.hpp"
#include "packer/io/json_file.hpp"

namespace mpk {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(const std::string& what) {
  throw Error{ErrorKind::bad_input, what};
}

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string() || found->get_ref<const std::string&>().empty())
    refuse(fmt::format("\"{}\" must be there and say something", key));
  return found->get<std::string>();
}
std::int64_t positive_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_integer() || found->get<std::int64_t>() <= 0)
    refuse(fmt::format("\"{}\" must be there and be a whole number above 0", key));
  return found->get<std::int64_t>();
}
void require_known_keys(const Json& object, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : object.items())
    if (std::ranges::find(known, key) == known.end())
      refuse(fmt::format("unknown key \"{}\"; there are {}", key, fmt::join(known, ", ")));
}

BenchType type_in(const Json& row) {
  const std::string name = text_of(row, "type");
  const auto type = bench_type_named(name);
  if (!type) refuse(fmt::format("unknown type \"{}\"; there are {}", name, bench_type_names()));
  return *type;
}
Float activations_in(const Json& row) {
  if (!row.contains("activations")) return Float::f16;
  const std::string name = text_of(row, "activations");
  for (const Float f : {Float::f16, Float::bf16})
    if (name == name_of(f)) return f;
  refuse(fmt::format("unknown activations \"{}\"; there are f16, bf16", name));
}
std::optional<GroupSize> group_size_in(const Json& row, const BenchType& type) {
  if (!row.contains("group_size")) return type.group_size(GroupSize{128});
  if (row.at("group_size") == -1) return std::nullopt;
  return GroupSize{positive_of(row, "group_size")};
}

ComparisonTime time_in(const Json& row) {
  if (!row.is_object()) refuse("it is no object");
  require_known_keys(row, {"k", "n", "m", "type", "activations", "group_size", "us", "name"});
  const BenchType type = type_in(row);
  ComparisonTime time{.name = text_of(row, "name"),
                      .layer = {.weight = type.weight,
                                .group_size = group_size_in(row, type),
                                .k = K{positive_of(row, "k")},
                                .n = N{positive_of(row, "n")},
                                .activations = activations_in(row),
                                .activations8 = type.activations8},
                      .m = M{positive_of(row, "m")}};
  const auto us = row.find("us");
  if (us == row.end() || !us->is_number() || !(us->get<double>() > 0))
    refuse("\"us\" must be there and be a number above 0: microseconds");
  time.us = us->get<double>();
  return time;
}

void read_into(Comparison& comparison, const std::filesystem::path& path) {
  const Json json = read_json_file(path);
  if (!json.is_object()) refuse("an object with \"label\" and \"rows\" was expected");
  require_known_keys(json, {"label", "rows"});
  comparison.labels.push_back(text_of(json, "label"));
  const auto rows = json.find("rows");
  if (rows == json.end() || !rows->is_array() || rows->empty())
    refuse("\"rows\" must be there and be a list with something in it");
  for (std::size_t i = 0; i < rows->size(); ++i)
    within(fmt::format("rows[{}]", i), [&] { comparison.times.push_back(time_in((*rows)[i])); });
}

bool same_product(const LayerShape& a, const LayerShape& b) {
  return a.weight == b.weight && a.group_size == b.group_size && a.k == b.k && a.n == b.n &&
         a.activations == b.activations && a.activations8 == b.activations8 && a.act_order == b.act_order;
}

template <class Wanted>
const ComparisonTime* least(const Comparison& comparison, const LayerShape& layer, M m, Wanted&& wanted) {
  const ComparisonTime* best = nullptr;
  for (const ComparisonTime& time : comparison.times)
    if (time.m == m && same_product(time.layer, layer) && wanted(time) &&
        (best == nullptr || time.us < best->us))
      best = &time;
  return best;
}

template <class Wanted>
ComparisonScore score(const std::string& name, const BenchReport& report, const Comparison& comparison,
                      Wanted&& wanted) {
  ComparisonScore sum{name};
  for (const BenchLayer& layer : report.layers)
    for (const BenchPoint& point : layer.points)
      if (const ComparisonTime* best = least(comparison, layer.layer, point.m, wanted)) {
        ++sum.of;
        if (point.graph_us <= best->us) ++sum.met;
      }
  return sum;
}

const BenchPoint* point_at(const BenchLayer& layer, M m) {
  const auto found = std::ranges::find(layer.points, m, &BenchPoint::m);
  return found == layer.points.end() ? nullptr : &*found;
}

}  // namespace

Comparison read_comparison(const std::vector<std::filesystem::path>& files) {
  Comparison comparison;
  for (const std::filesystem::path& path : files)
    within("file " + path.string(), [&] { read_into(comparison, path); });
  return comparison;
}

const ComparisonTime* best_time(const Comparison& comparison, const LayerShape& layer, M m) {
  return least(comparison, layer, m, [](const ComparisonTime&) { return true; });
}

std::vector<ComparisonScore> scores(const BenchReport& report, const Comparison& comparison) {
  std::vector<std::string> names;
  for (const ComparisonTime& time : comparison.times)
    if (std::ranges::find(names, time.name) == names.end()) names.push_back(time.name);
  std::vector<ComparisonScore> all;
  all.push_back(score("the best of them", report, comparison, [](const ComparisonTime&) { return true; }));
  for (const std::string& name : names)
    all.push_back(
        score(name, report, comparison, [&](const ComparisonTime& time) { return time.name == name; }));
  return all;
}

std::optional<BenchRatio> largest_step(const BenchReport& report, M from, M to) {
  std::optional<BenchRatio> worst;
  for (const BenchLayer& layer : report.layers) {
    const BenchPoint *before = point_at(layer, from), *after = point_at(layer, to);
    if (before == nullptr || after == nullptr) continue;
    const double ratio = after->graph_us / before->graph_us;
    if (!worst || ratio > worst->ratio) worst = BenchRatio{&layer, to, ratio};
  }
  return worst;
}

std::optional<BenchRatio> slowest_beside_cublas(const BenchReport& report, M from) {
  std::optional<BenchRatio> worst;
  for (const BenchLayer& layer : report.layers)
    for (const BenchPoint& point : layer.points) {
      if (point.m < from || !point.cublas_us) continue;
      const double ratio = point.graph_us / *point.cublas_us;
      if (!worst || ratio > worst->ratio) worst = BenchRatio{&layer, point.m, ratio};
    }
  return worst;
}

}  // namespace mpk
