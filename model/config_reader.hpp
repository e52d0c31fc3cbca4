#pragma once
// Typed access to the keys of a config: every complaint names the key and the value.

#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace mpk {

/// A view of one JSON object; null counts as absent, as it does in transformers.
class ConfigReader {
 public:
  /// `path` names the object in messages: "" for the whole config, else e.g. "rope_scaling". Throws
  /// Error{bad_input} if `object` is none. Must not outlive `object`.
  ConfigReader(const nlohmann::json& object, std::string path);

  /// The value of `key`, or nullptr if it is absent or null.
  const nlohmann::json* find(const char* key) const;
  /// The key is there, though its value may be null.
  bool mentions(const char* key) const { return object_.contains(key); }

  // Each throws Error{bad_input} for a value of another type or outside the bounds.
  std::optional<std::int64_t> integer(const char* key, std::int64_t min, std::int64_t max) const;
  std::optional<double> positive(const char* key) const;  ///< finite and > 0
  std::optional<double> nonzero(const char* key) const;   ///< the same, and 0 counts as absent
  std::optional<bool> boolean(const char* key) const;
  std::optional<std::string> string(const char* key) const;

  /// For values the caller cannot do without; throws Error{bad_input} that says so.
  std::int64_t required_integer(const char* key, std::int64_t min, std::int64_t max) const;
  double required_positive(const char* key) const;

  /// "rope_scaling.factor": the key as messages name it.
  std::string name(const char* key) const { return path_.empty() ? key : path_ + "." + key; }

 private:
  const nlohmann::json& object_;
  std::string path_;
};

/// A value as it stands in the file, cut if it is long.
std::string brief(const nlohmann::json& value);

}  // namespace mpk
