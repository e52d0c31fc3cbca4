#include "cli/terminal.hpp"

#include <fstream>
#include <unistd.h>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk {

std::string human_bytes(std::uint64_t bytes) {
  const char* const units[] = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.95 && unit + 1 < std::size(units)) {
    value /= 1000.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, units[unit]);
}

std::string human_seconds(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  return whole < 3600 ? fmt::format("{}:{:02} min", whole / 60, whole % 60)
                      : fmt::format("{}:{:02}:{:02} h", whole / 3600, whole / 60 % 60, whole % 60);
}

void Output::line(const std::string& text) const {
  fmt::print(json_target_ == "-" ? stderr : stdout, "{}\n", text);
}

void Output::json(const nlohmann::ordered_json& result) const {
  if (json_target_.empty()) return;
  const std::string text = result.dump(2) + "\n";
  if (json_target_ == "-") {
    fmt::print("{}", text);
    return;
  }
  std::ofstream out(json_target_, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) throw Error{ErrorKind::device, fmt::format("--json {}: cannot be written", json_target_)};
}

ProgressDisplay::ProgressDisplay() : terminal_{::isatty(STDERR_FILENO) == 1} {}

ProgressDisplay::~ProgressDisplay() {
  clear();
}

Progress ProgressDisplay::callback() {
  return [this](const std::string& stage, std::int64_t done, std::int64_t total, const std::string& detail) {
    show(stage, done, total, detail);
  };
}

void ProgressDisplay::clear() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  drawn_ = false;
}

void ProgressDisplay::show(const std::string& stage, std::int64_t done, std::int64_t total,
                           const std::string& detail) {
  const auto now = std::chrono::steady_clock::now();
  if (stage != stage_) {
    clear();
    stage_ = stage;
    stage_begin_ = now;
  }
  const double elapsed = std::chrono::duration<double>(now - stage_begin_).count();
  if (!terminal_) {
    if (done > 0)
      fmt::print(stderr, "{} {}/{}  {}  {}\n", stage, done, total, human_seconds(elapsed), detail);
    return;
  }
  if (done >= total) return clear();  // what follows on this terminal are results
  constexpr std::int64_t kWidth = 30;
  const std::int64_t filled = total > 0 ? done * kWidth / total : 0;
  const std::string left =
      done > 0 ? human_seconds(elapsed / static_cast<double>(done) * static_cast<double>(total - done)) : "?";
  fmt::print(stderr, "\r\x1b[K{} [{}{}] {}/{}  {} left  {}", stage,
             std::string(static_cast<std::size_t>(filled), '#'),
             std::string(static_cast<std::size_t>(kWidth - filled), '.'), done, total, left, detail);
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace mpk
