#pragma once
// GPU memory that frees itself. Move-only.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "gpu/check.hpp"
#include "gpu/stream.hpp"

namespace mpk {

namespace detail {
/// What this process holds in buffers, and the most it ever held.
struct DeviceMemory {
  std::atomic<std::uint64_t> now = 0, peak = 0;
  void add(std::uint64_t bytes) {
    const std::uint64_t total = now += bytes;
    std::uint64_t seen = peak;
    while (seen < total && !peak.compare_exchange_weak(seen, total)) {
    }
  }
};
inline DeviceMemory device_memory;
}  // namespace detail

/// Bytes of GPU memory in DeviceBuffers; the CUDA context and libraries take more beside them.
inline std::uint64_t gpu_memory_now() {
  return detail::device_memory.now;
}
inline std::uint64_t gpu_memory_peak() {
  return detail::device_memory.peak;
}

template <class T>
class DeviceBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(std::size_t size) : size_{size} {
    if (size == 0) return;
    const cudaError_t status = cudaMalloc(reinterpret_cast<void**>(&data_), size_bytes());
    if (status == cudaErrorMemoryAllocation)
      (void)cudaGetLastError();  // not sticky: a smaller layer may still fit
    check_cuda(status, ("cudaMalloc of " + std::to_string(size_bytes()) + " bytes").c_str());
    detail::device_memory.add(size_bytes());
  }
  /// A copy of host memory; returns when the host memory may change again.
  DeviceBuffer(std::span<const T> host, const Stream& stream) : DeviceBuffer(host.size()) {
    if (host.empty()) return;
    MPK_CUDA(cudaMemcpyAsync(data_, host.data(), size_bytes(), cudaMemcpyHostToDevice, stream.get()));
    stream.wait();
  }
  ~DeviceBuffer() {
    if (!data_) return;
    cudaFree(data_);
    detail::device_memory.now -= size_bytes();
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_{std::exchange(other.data_, nullptr)}, size_{std::exchange(other.size_, 0)} {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  /// Makes room for `size` elements, more or as many as there are now; if it has to grow, what was there is
  /// gone.
  T* room(std::size_t size) {
    if (size_ < size) {
      *this = {};  // before the new one: both may not fit
      *this = DeviceBuffer{size};
    }
    return data_;
  }

  /// Every byte, in stream order.
  void fill_bytes(int byte, const Stream& stream) {
    MPK_CUDA(cudaMemsetAsync(data_, byte, size_bytes(), stream.get()));
  }

  /// The contents after everything the stream was given so far.
  std::vector<T> to_host(const Stream& stream) const {
    std::vector<T> host(size_);
    MPK_CUDA(cudaMemcpyAsync(host.data(), data_, size_bytes(), cudaMemcpyDeviceToHost, stream.get()));
    stream.wait();
    return host;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t size_bytes() const { return size_ * sizeof(T); }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace mpk
