#pragma once
// A column of numbers for each calibration token, in GPU memory if there is room, else in pinned host memory
// from which chunks come and go.

#include <cstdint>

#include "gpu/device_buffer.hpp"

namespace mpk {

class TokenStore {
 public:
  /// `chunk_tokens`: the most that chunk() is asked for.
  TokenStore(std::int64_t bytes_per_token, std::int64_t tokens, std::int64_t chunk_tokens, bool on_gpu,
             const Stream& stream);
  ~TokenStore();
  TokenStore(const TokenStore&) = delete;
  TokenStore& operator=(const TokenStore&) = delete;

  /// Tokens [begin, begin + count) in GPU memory, valid until the next call.
  void* load(std::int64_t begin, std::int64_t count);
  /// The same without what they hold, to be filled in.
  void* blank(std::int64_t begin);
  /// Keeps what load() or blank() of the same tokens returned and work on the stream has changed since.
  void store(std::int64_t begin, std::int64_t count);

  static std::int64_t gpu_bytes(std::int64_t bytes_per_token, std::int64_t tokens, std::int64_t chunk_tokens,
                                bool on_gpu) {
    return bytes_per_token * (on_gpu ? tokens : chunk_tokens);
  }

 private:
  std::size_t offset(std::int64_t token) const { return static_cast<std::size_t>(token * bytes_per_token_); }

  std::int64_t bytes_per_token_;
  bool on_gpu_;
  const Stream& stream_;
  DeviceBuffer<std::byte> device_;  ///< of all tokens, or of a chunk
  std::byte* host_ = nullptr;
};

}  // namespace mpk
