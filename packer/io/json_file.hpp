#pragma once
// JSON from files nobody vouches for: bounded size and depth, no repeated keys, errors that say where.

#include <cstdint>
#include <filesystem>
#include <string_view>

#include <nlohmann/json.hpp>

namespace mpk {

struct JsonLimits {
  std::uint64_t max_bytes = std::uint64_t{64} << 20;
  int max_depth = 64;  ///< open objects and arrays; a lone object has depth 1
};

/// Throws Error{bad_input} with line and column. Refuses what nlohmann::json would let pass: a repeated key
/// (it keeps the last), a NUL byte (it stops reading there), any depth.
nlohmann::json parse_json(std::string_view text, const JsonLimits& limits = {});

/// The same for a file, which the error names.
nlohmann::json read_json_file(const std::filesystem::path& path, const JsonLimits& limits = {});

}  // namespace mpk
