#pragma once
// What a person sees: text on standard output (or standard error, when standard output carries JSON),
// progress on standard error.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include <nlohmann/json.hpp>

#include "cli/pipeline/progress.hpp"

namespace mpk {

/// "16.8 MB"; decimal units, as disks and links count.
std::string human_bytes(std::uint64_t bytes);
/// "1:07", "12.3 s".
std::string human_seconds(double seconds);

/// Where a command's results go.
class Output {
 public:
  /// `json_target`: a file, "-" for standard output, empty for no JSON.
  explicit Output(std::string json_target) : json_target_{std::move(json_target)} {}
  void line(const std::string& text = {}) const;
  /// Writes the machine-readable result; throws Error{device} if the file cannot be written.
  void json(const nlohmann::ordered_json& result) const;

 private:
  std::string json_target_;
};

/// A bar with the time that is left on a terminal; a plain line per step otherwise.
class ProgressDisplay {
 public:
  ProgressDisplay();
  ~ProgressDisplay();
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  Progress callback();

 private:
  void show(const std::string& stage, std::int64_t done, std::int64_t total, const std::string& detail);
  void clear();

  bool terminal_;
  bool drawn_ = false;
  std::string stage_;
  std::chrono::steady_clock::time_point stage_begin_;
};

}  // namespace mpk
