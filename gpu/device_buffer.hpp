#pragma once
// GPU memory that frees itself. Move-only.

#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "gpu/check.hpp"
#include "gpu/stream.hpp"

namespace mpk {

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
  }
  /// A copy of host memory; returns when the host memory may change again.
  DeviceBuffer(std::span<const T> host, const Stream& stream) : DeviceBuffer(host.size()) {
    if (host.empty()) return;
    MPK_CUDA(cudaMemcpyAsync(data_, host.data(), size_bytes(), cudaMemcpyHostToDevice, stream.get()));
    stream.wait();
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_{std::exchange(other.data_, nullptr)}, size_{std::exchange(other.size_, 0)} {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
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
