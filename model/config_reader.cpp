#include "model/config_reader.hpp"

#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk {
namespace {

[[noreturn]] void reject(const std::string& name, const nlohmann::json& value, const std::string& expected) {
  throw Error{ErrorKind::bad_input,
              fmt::format("config: {} is {}, expected {}", name, brief(value), expected)};
}

[[noreturn]] void missing(const std::string& name) {
  throw Error{ErrorKind::bad_input, fmt::format("config: {} is missing", name)};
}

}  // namespace

std::string brief(const nlohmann::json& value) {
  constexpr std::size_t kLongest = 60;
  // "replace" keeps a string that is not UTF-8 from throwing out of an error message
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

ConfigReader::ConfigReader(const nlohmann::json& object, std::string path)
    : object_{object}, path_{std::move(path)} {
  if (!object_.is_object()) reject(path_.empty() ? "the top level" : path_, object_, "an object");
}

const nlohmann::json* ConfigReader::find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::optional<std::int64_t> ConfigReader::integer(const char* key, std::int64_t min, std::int64_t max) const {
  const nlohmann::json* value = find(key);
  if (!value) return std::nullopt;
  const auto expected = [&] { return fmt::format("an integer from {} to {}", min, max); };
  if (!value->is_number_integer()) reject(name(key), *value, expected());
  if (value->is_number_unsigned() &&
      value->get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    reject(name(key), *value, expected());
  const auto number = value->get<std::int64_t>();
  if (number < min || number > max) reject(name(key), *value, expected());
  return number;
}

std::optional<double> ConfigReader::positive(const char* key) const {
  const nlohmann::json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_number()) reject(name(key), *value, "a number");
  const auto number = value->get<double>();
  if (!std::isfinite(number) || number <= 0) reject(name(key), *value, "a finite number above 0");
  return number;
}

std::optional<double> ConfigReader::nonzero(const char* key) const {
  const nlohmann::json* value = find(key);
  return value && *value == 0 ? std::nullopt : positive(key);
}

std::optional<bool> ConfigReader::boolean(const char* key) const {
  const nlohmann::json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) reject(name(key), *value, "true or false");
  return value->get<bool>();
}

std::optional<std::string> ConfigReader::string(const char* key) const {
  const nlohmann::json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_string()) reject(name(key), *value, "a string");
  return value->get<std::string>();
}

std::int64_t ConfigReader::required_integer(const char* key, std::int64_t min, std::int64_t max) const {
  const auto value = integer(key, min, max);
  if (!value) missing(name(key));
  return *value;
}

double ConfigReader::required_positive(const char* key) const {
  const auto value = positive(key);
  if (!value) missing(name(key));
  return *value;
}

}  // namespace mpk
