#pragma once
// GPU memory on its way to pageable host memory: through pinned buffers, so that the bus runs at its own
// speed, and out of them by several threads, since touching fresh pages costs more than copying.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <span>

#include "gpu/stream.hpp"

namespace mpk {

class Downloader {
 public:
  Downloader() {
    for (Buffer& buffer : buffers_)
      MPK_CUDA(cudaHostAlloc(reinterpret_cast<void**>(&buffer.host), kBytes, cudaHostAllocDefault));
  }
  ~Downloader() {
    for (Buffer& buffer : buffers_) cudaFreeHost(buffer.host);
  }
  Downloader(const Downloader&) = delete;
  Downloader& operator=(const Downloader&) = delete;

  /// After everything the stream was given so far; returns when `host` is complete.
  void copy(const void* device, std::span<std::byte> host, const Stream& stream) {
    const auto* from = static_cast<const std::byte*>(device);
    const std::size_t pieces = (host.size() + kBytes - 1) / kBytes;
    const auto begin = [&](std::size_t piece) {
      Buffer& buffer = buffers_[piece % buffers_.size()];
      const std::size_t at = piece * kBytes;
      MPK_CUDA(cudaMemcpyAsync(buffer.host, from + at, std::min(kBytes, host.size() - at),
                               cudaMemcpyDeviceToHost, stream.get()));
      buffer.arrived.record(stream);
    };
    if (pieces > 0) begin(0);
    for (std::size_t piece = 0; piece < pieces; ++piece) {
      if (piece + 1 < pieces) begin(piece + 1);
      const Buffer& buffer = buffers_[piece % buffers_.size()];
      buffer.arrived.wait();
      const std::size_t at = piece * kBytes, bytes = std::min(kBytes, host.size() - at);
#pragma omp parallel for schedule(static)
      for (std::size_t slice = 0; slice < bytes; slice += kSlice)
        std::memcpy(host.data() + at + slice, buffer.host + slice, std::min(kSlice, bytes - slice));
    }
  }

 private:
  static constexpr std::size_t kBytes = std::size_t{16} << 20, kSlice = std::size_t{1} << 20;
  struct Buffer {
    std::byte* host = nullptr;
    Event arrived;
  };
  std::array<Buffer, 2> buffers_;
};

}  // namespace mpk
