#include "cli/pipeline/token_store.hpp"

namespace mpk {

TokenStore::TokenStore(std::int64_t bytes_per_token, std::int64_t tokens, std::int64_t chunk_tokens,
                       bool on_gpu, const Stream& stream)
    : bytes_per_token_{bytes_per_token}, on_gpu_{on_gpu}, stream_{stream} {
  device_ = DeviceBuffer<std::byte>{
      static_cast<std::size_t>(gpu_bytes(bytes_per_token, tokens, chunk_tokens, on_gpu))};
  if (!on_gpu)
    MPK_CUDA(cudaHostAlloc(reinterpret_cast<void**>(&host_), offset(tokens), cudaHostAllocDefault));
}

TokenStore::~TokenStore() {
  cudaFreeHost(host_);
}

void* TokenStore::load(std::int64_t begin, std::int64_t count) {
  if (on_gpu_) return device_.data() + offset(begin);
  MPK_CUDA(cudaMemcpyAsync(device_.data(), host_ + offset(begin), offset(count), cudaMemcpyHostToDevice,
                           stream_.get()));
  return device_.data();
}

void* TokenStore::blank(std::int64_t begin) {
  return on_gpu_ ? device_.data() + offset(begin) : device_.data();
}

void TokenStore::store(std::int64_t begin, std::int64_t count) {
  if (!on_gpu_)
    MPK_CUDA(cudaMemcpyAsync(host_ + offset(begin), device_.data(), offset(count), cudaMemcpyDeviceToHost,
                             stream_.get()));
}

}  // namespace mpk
