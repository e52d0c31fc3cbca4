#pragma once
// Adds the seconds of a scope to a total.

#include <chrono>

namespace mpk {

class Timer {
 public:
  explicit Timer(double& total) : total_{total} {}
  ~Timer() { total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  double& total_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace mpk
