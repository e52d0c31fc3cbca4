#include "packer/parts.hpp"

#include <algorithm>
#include <cstdint>
#include <sys/mman.h>

#include <fmt/format.h>

#include "packer/format/error.hpp"

namespace mpk {
namespace {

/// Zeros. The memory of a large tensor comes in huge pages where the system has them: one fault, not 512.
std::vector<std::byte> zeros(std::size_t count) {
  constexpr std::uintptr_t kHugePage = std::uintptr_t{2} << 20;
  std::vector<std::byte> bytes;
  bytes.reserve(count);
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
  const std::uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage,
                       last = (begin + count) / kHugePage * kHugePage;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  bytes.resize(count);
  return bytes;
}

}  // namespace

PartViews views_of(std::span<const Part> parts) {
  PartViews views;
  for (const Part& part : parts) views.emplace(part.suffix, part.tensor.view());
  return views;
}

PartBuffers buffers_of(std::span<Part> parts) {
  PartBuffers buffers;
  for (Part& part : parts)
    buffers.emplace(part.suffix, PartBuffer{part.tensor.dtype, part.tensor.shape, part.tensor.data});
  return buffers;
}

std::vector<Part> allocate(std::span<const PartSpec> specs) {
  std::vector<Part> parts;
  for (const PartSpec& spec : specs)
    parts.push_back({spec.suffix, {spec.dtype, spec.shape, zeros(num_bytes(spec))}});
  return parts;
}

const PartBuffer& part_of(const PartBuffers& parts, std::string_view suffix) {
  const auto found = parts.find(suffix);
  if (found == parts.end()) throw Error{ErrorKind::bad_input, fmt::format("there is no {}", suffix)};
  return found->second;
}

bool has_part(const PartViews& parts, std::string_view suffix) {
  return parts.find(suffix) != parts.end();
}

const TensorView& part_of(const PartViews& parts, std::string_view suffix) {
  const auto found = parts.find(suffix);
  if (found == parts.end()) throw Error{ErrorKind::bad_input, fmt::format("there is no {}", suffix)};
  return found->second;
}

std::size_t num_bytes(const PartSpec& spec) {
  std::size_t bytes = static_cast<std::size_t>(info(spec.dtype).bits / 8);
  for (std::int64_t extent : spec.shape) bytes *= static_cast<std::size_t>(extent);
  return bytes;
}

void require(const PartViews& parts, std::span<const PartSpec> specs) {
  const auto fail = [](const std::string& what) { throw Error{ErrorKind::bad_input, what}; };
  for (const PartSpec& spec : specs) {
    const TensorView& part = part_of(parts, spec.suffix);
    if (part.dtype != spec.dtype)
      fail(fmt::format("{} is {}, not {}", spec.suffix, info(part.dtype).name, info(spec.dtype).name));
    if (part.shape != spec.shape)
      fail(fmt::format("{} has shape {}, not {}", spec.suffix, to_string(part.shape), to_string(spec.shape)));
  }
  for (const PartSpec& spec : specs) {  // once all headers fit
    const TensorView& part = part_of(parts, spec.suffix);
    if (part.data.size() != num_bytes(spec))
      fail(fmt::format("{} has {} bytes, {} {} needs {}", spec.suffix, part.data.size(),
                       info(spec.dtype).name, to_string(spec.shape), num_bytes(spec)));
  }
  for (const auto& [suffix, part] : parts)
    if (std::ranges::find(specs, suffix, &PartSpec::suffix) == specs.end())
      fail(fmt::format("{} is no part of this format", suffix));
}

}  // namespace mpk
