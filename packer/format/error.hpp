#pragma once
// Errors carry what went wrong and, as they climb, where: each caller that knows a name adds one frame.

#include <exception>
#include <string>
#include <utility>

namespace mpk {

/// The numeric values are the process's exit codes (README, "Exit codes").
enum class ErrorKind : int {
  usage = 2,        ///< the command line or an option value is wrong
  bad_input = 3,    ///< a file is missing, malformed or contradicts itself
  unsupported = 4,  ///< well formed, but nothing here can handle it
  mismatch = 5,     ///< a verification found a difference
  device = 6,       ///< GPU or operating system failed (no device, out of memory, disk full)
};

class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string what) : kind_{kind}, text_{std::move(what)} {}

  /// Adds "in <frame>" below the message; call while the exception travels up.
  void in(const std::string& frame) { text_ += "\n  in " + frame; }

  ErrorKind kind() const noexcept { return kind_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  ErrorKind kind_;
  std::string text_;
};

/// Runs `f`; an Error that leaves it learns that it happened in `frame`.
template <class F>
decltype(auto) within(const std::string& frame, F&& f) {
  try {
    return std::forward<F>(f)();
  } catch (Error& error) {
    error.in(frame);
    throw;
  }
}

}  // namespace mpk
