#include "cli/pipeline/quantize_journal.hpp"

#include <utility>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const FinishedUnit& unit) {
  Json layers = Json::array();
  for (const ManifestLayer& layer : unit.layers) layers.push_back(layer_json(layer));
  return {{"unit", unit.unit},
          {"layers", std::move(layers)},
          {"source", unit.source},
          {"rescaled", unit.rescaled},
          {"written", unit.written}};
}

FinishedUnit unit_from(const Json& json) {
  FinishedUnit unit;
  json.at("unit").get_to(unit.unit);
  for (const Json& layer : json.at("layers")) unit.layers.push_back(layer_from_json(layer));
  json.at("source").get_to(unit.source);
  json.at("rescaled").get_to(unit.rescaled);
  json.at("written").get_to(unit.written);
  return unit;
}

/// "/recipe/damp" -> "0.01"
std::map<std::string, std::string> flat(const Json& json) {
  std::map<std::string, std::string> values;
  const Json flattened = json.flatten();
  for (const auto& [path, value] : flattened.items()) values[path.substr(1)] = value.dump();
  return values;
}

std::string differences(const Json& then, const Json& now) {
  const auto before = flat(then), after = flat(now);
  std::map<std::string, std::pair<std::string, std::string>> rows;
  for (const auto& [path, value] : before) rows[path] = {value, "not there"};
  for (const auto& [path, value] : after)
    rows.try_emplace(path, "not there", "").first->second.second = value;
  constexpr int kShown = 12;  // another checkpoint differs in every shard
  std::string text;
  int count = 0;
  for (const auto& [path, values] : rows)
    if (values.first != values.second && ++count <= kShown)
      text += fmt::format("\n  {}: {} then, {} now", path, values.first, values.second);
  if (count > kShown) text += fmt::format("\n  and {} more", count - kShown);
  return text;
}

}  // namespace

QuantizeJournal::QuantizeJournal(const std::filesystem::path& file) : journal_{file} {
  for (const std::string& line : journal_.lines()) {
    try {
      const Json json = Json::parse(line);
      if (!json.contains("unit")) {
        identity_ = json;
        finished_.clear();
      } else if (identity_) {
        FinishedUnit unit = unit_from(json);
        finished_[unit.unit] = std::move(unit);
      }
    } catch (const nlohmann::json::exception& e) {
      throw Error{ErrorKind::bad_input, fmt::format("{}: not as marlin-pack writes it ({}); --restart begins "
                                                    "anew",
                                                    file.string(), e.what())};
    }
  }
}

void QuantizeJournal::require(const Json& identity) {
  if (identity_ == identity) return;
  if (!finished_.empty())
    throw Error{ErrorKind::usage, "it was begun by another job:" + differences(*identity_, identity)};
  journal_.append(identity.dump());
  identity_ = identity;
}

void QuantizeJournal::append(const FinishedUnit& unit) {
  journal_.append(to_json(unit).dump());
}

}  // namespace mpk
