#pragma once
// An order of GPU work, and marks in it that carry the time. Move-only.

#include <utility>

#include "gpu/check.hpp"

namespace mpk {

class Stream {
 public:
  Stream() { MPK_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() {
    if (stream_) cudaStreamDestroy(stream_);
  }
  Stream(Stream&& other) noexcept : stream_{std::exchange(other.stream_, nullptr)} {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(stream_, other.stream_);
    return *this;
  }
  cudaStream_t get() const { return stream_; }
  /// Blocks until the GPU has done all of it; throws what went wrong on the way.
  void wait() const { MPK_CUDA(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { MPK_CUDA(cudaEventCreate(&event_)); }
  ~Event() {
    if (event_) cudaEventDestroy(event_);
  }
  Event(Event&& other) noexcept : event_{std::exchange(other.event_, nullptr)} {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  void record(const Stream& stream) { MPK_CUDA(cudaEventRecord(event_, stream.get())); }
  /// Blocks until the GPU has come past the mark.
  void wait() const { MPK_CUDA(cudaEventSynchronize(event_)); }
  /// Work that `stream` gets from now on begins after the mark.
  void hold_up(const Stream& stream) const { MPK_CUDA(cudaStreamWaitEvent(stream.get(), event_)); }
  float milliseconds_since(const Event& start) const {
    float ms = 0;
    MPK_CUDA(cudaEventSynchronize(event_));
    MPK_CUDA(cudaEventElapsedTime(&ms, start.event_, event_));
    return ms;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace mpk
