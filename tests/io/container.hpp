#pragma once
// Containers put together by hand, and what a rejection has to look like. Shares no code with packer/io.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/format/tensor.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/errors.hpp"

namespace mpk::test {

/// Length field, header, data.
inline std::string container(const std::string& header, const std::string& data) {
  std::string file;
  for (std::uint64_t i = 0, length = header.size(); i < 8; ++i)
    file += static_cast<char>(length >> (8 * i) & 0xff);
  return file + header + data;
}

/// {"NAME": {...}} of one U8 tensor without its braces, for headers with a given set of extents.
inline std::string u8_entry(const std::string& name, std::uint64_t begin, std::uint64_t end) {
  return fmt::format(R"("{}":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}})", name, end - begin, begin,
                     end);
}

inline std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span{text.data(), text.size()});
}
inline std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// `f` must end with an Error of this kind that mentions each of `parts`.
template <class F>
void require_error(ErrorKind kind, const std::vector<std::string>& parts, F&& f) {
  const auto error = error_of(std::forward<F>(f));
  REQUIRE(error.has_value());
  const std::string what = error->what();
  INFO(what);
  CHECK(static_cast<int>(error->kind()) == static_cast<int>(kind));
  for (const auto& part : parts) {
    INFO("expected to find: " << part);
    CHECK(what.find(part) != std::string::npos);
  }
}

inline Tensor random_tensor(DType dtype, const Shape& shape, unsigned seed) {
  std::int64_t bits = info(dtype).bits;
  for (const auto extent : shape) bits *= extent;
  std::mt19937 random{seed};
  Tensor tensor{dtype, shape, std::vector<std::byte>(static_cast<std::size_t>(bits / 8))};
  std::generate(tensor.data.begin(), tensor.data.end(), [&] { return static_cast<std::byte>(random()); });
  return tensor;
}

}  // namespace mpk::test
