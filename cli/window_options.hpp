#pragma once
// Which windows of a text calibration takes: the same options wherever a command calibrates.

#include <cstdint>
#include <optional>

#include <CLI/CLI.hpp>

namespace mpk {

inline void add_window_options(CLI::App& cmd, std::int64_t& samples, std::int64_t& seq_len,
                               std::optional<std::uint64_t>& seed) {
  cmd.add_option("--samples", samples, "calibration windows")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  cmd.add_option("--seq-len", seq_len, "tokens per window")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  cmd.add_option("--seed", seed, "draw the windows at random instead of taking the first");
}

}  // namespace mpk
