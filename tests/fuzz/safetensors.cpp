// The container: a whole file.

#include "packer/io/safetensors.hpp"

#include <span>

#include "tests/fuzz/fuzz.hpp"

using namespace mpk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  SafetensorsHeader header;
  if (!fuzz::succeeds([&] { header = parse_safetensors(std::as_bytes(std::span{data, size})); })) return 0;
  std::uint64_t bytes = header.size_bytes;
  for (const auto& [name, entry] : header.tensors) {
    fuzz::require(entry.begin <= entry.end && entry.end <= size - header.size_bytes, "tensors are inside");
    fuzz::require(entry.end - entry.begin == tensor_bytes(entry.dtype, entry.shape), "sizes fit the shapes");
    bytes += entry.end - entry.begin;
  }
  fuzz::require(bytes == size, "tensors fill the file");
  return 0;
}
