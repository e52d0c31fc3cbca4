#include "cli/pipeline/write_queue.hpp"

#include <utility>

namespace mpk {

WriteQueue::WriteQueue(int num_threads, std::uint64_t budget_bytes) : budget_{budget_bytes} {
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { work(); });
}

WriteQueue::~WriteQueue() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
    waiting_.clear();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WriteQueue::work() {
  std::unique_lock lock{mutex_};
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    ++running_;
    const bool skip = failure_ != nullptr;
    lock.unlock();
    std::exception_ptr failure;
    try {
      if (!skip) job.run();
    } catch (...) {
      failure = std::current_exception();
    }
    job.run = nullptr;  // its memory goes before its bytes are counted as free
    lock.lock();
    --running_;
    held_ -= job.bytes;
    if (failure && !failure_) failure_ = failure;
    changed_.notify_all();
  }
}

void WriteQueue::rethrow() {
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void WriteQueue::wait_for_room(std::uint64_t coming_bytes) {
  std::unique_lock lock{mutex_};
  changed_.wait(lock, [&] { return failure_ || held_ == 0 || held_ + coming_bytes <= budget_; });
  rethrow();
}

void WriteQueue::push(std::uint64_t bytes, std::function<void()> job) {
  const std::lock_guard lock{mutex_};
  held_ += bytes;
  waiting_.push_back({bytes, std::move(job)});
  changed_.notify_all();
}

void WriteQueue::drain() {
  std::unique_lock lock{mutex_};
  changed_.wait(lock, [&] { return waiting_.empty() && running_ == 0; });
  rethrow();
}

}  // namespace mpk
