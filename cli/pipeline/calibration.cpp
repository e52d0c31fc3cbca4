#include "cli/pipeline/calibration.hpp"

#include <algorithm>
#include <numeric>
#include <random>

#include <fmt/format.h>

#include "model/tokenizer/tokenizer.hpp"
#include "packer/format/error.hpp"
#include "packer/io/sha256.hpp"

namespace mpk {

std::vector<std::int32_t> calibration_windows(const std::vector<std::int32_t>& tokens, std::int64_t samples,
                                              std::int64_t length, std::optional<std::uint64_t> seed) {
  if (samples < 1 || length < 1)
    throw Error{ErrorKind::usage,
                fmt::format("{} samples of {} tokens: both must be positive", samples, length)};
  const std::int64_t available = static_cast<std::int64_t>(tokens.size()) / length;
  if (available < samples)
    throw Error{
        ErrorKind::bad_input,
        fmt::format(
            "the calibration text has {} tokens, {} windows of {}; {} were asked for (give more text, fewer "
            "--samples or a shorter --seq-len)",
            tokens.size(), available, length, samples)};
  std::vector<std::int64_t> order(static_cast<std::size_t>(available));
  std::iota(order.begin(), order.end(), 0);
  if (seed) {  // Fisher and Yates with the engine's raw output: the standard's distributions differ between
               // libraries
    std::mt19937_64 engine{*seed};
    for (std::size_t i = 0; i < static_cast<std::size_t>(samples); ++i)
      std::swap(order[i], order[i + engine() % (order.size() - i)]);
  }
  std::vector<std::int32_t> windows;
  windows.reserve(static_cast<std::size_t>(samples * length));
  for (std::int64_t i = 0; i < samples; ++i) {
    const auto begin = tokens.begin() + order[static_cast<std::size_t>(i)] * length;
    windows.insert(windows.end(), begin, begin + length);
  }
  return windows;
}

std::vector<std::int32_t> load_windows(const CalibrationText& text,
                                       const std::filesystem::path& model_directory) {
  return calibration_windows(load_tokens(text.file, model_directory), text.samples, text.seq_len, text.seed);
}

nlohmann::ordered_json calibration_json(const CalibrationText& text) {
  nlohmann::ordered_json json{{"file", text.file.filename().string()},
                              {"sha256", sha256_of_file(text.file)},
                              {"samples", text.samples},
                              {"seq_len", text.seq_len}};
  if (text.seed) json["seed"] = *text.seed;
  return json;
}

}  // namespace mpk
