#pragma once
// Which windows of a token stream the quantizer sees.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

namespace mpk {

/// `samples` windows of `length` tokens, one after the other: the first ones of the stream, or with a seed,
/// that many of its consecutive windows drawn without repetition. Throws Error{bad_input} if the stream is
/// too short.
std::vector<std::int32_t> calibration_windows(const std::vector<std::int32_t>& tokens, std::int64_t samples,
                                              std::int64_t length, std::optional<std::uint64_t> seed);

struct CalibrationText {
  std::filesystem::path file;  ///< text or tokens
  std::int64_t samples = 0, seq_len = 0;
  std::optional<std::uint64_t> seed;
};
/// Its windows, in the tokens of the model in `model_directory`.
std::vector<std::int32_t> load_windows(const CalibrationText& text,
                                       const std::filesystem::path& model_directory);
/// As manifests and statistics record it: without the path. Hashes the file.
nlohmann::ordered_json calibration_json(const CalibrationText& text);

}  // namespace mpk
