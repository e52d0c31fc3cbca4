#pragma once
// Finished tensors on their way to disk while the next ones are made.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace mpk {

/// Runs jobs in the background, several at a time, in the order in which they came.
class WriteQueue {
 public:
  WriteQueue(int num_threads, std::uint64_t budget_bytes);
  /// Throws nothing: a failure that nobody asked for is dropped with the jobs.
  ~WriteQueue();
  WriteQueue(const WriteQueue&) = delete;
  WriteQueue& operator=(const WriteQueue&) = delete;

  /// Blocks until what waits or is being written and `coming_bytes` together are within the budget, or
  /// nothing waits. Throws what a job threw.
  void wait_for_room(std::uint64_t coming_bytes);
  /// `bytes`: what the job keeps in memory until it is done.
  void push(std::uint64_t bytes, std::function<void()> job);
  /// Blocks until all jobs are done. Throws what a job threw.
  void drain();

 private:
  struct Job {
    std::uint64_t bytes;
    std::function<void()> run;
  };
  void work();
  void rethrow();

  const std::uint64_t budget_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> waiting_;
  std::uint64_t held_ = 0;
  int running_ = 0;
  bool stopping_ = false;
  std::exception_ptr failure_;
  std::vector<std::thread> threads_;
};

}  // namespace mpk
