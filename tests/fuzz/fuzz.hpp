#pragma once
// What the fuzz targets share. A target is a file with LLVMFuzzerTestOneInput: libFuzzer runs it, and
// replay.cpp in the tests. An Error is an answer; any other exception, and a property that does not hold,
// ends the process.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "packer/format/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace mpk::fuzz {

[[noreturn]] inline void broken(std::string_view property) {
  std::fprintf(stderr, "broken: %.*s\n", static_cast<int>(property.size()), property.data());
  std::abort();
}

inline void require(bool holds, std::string_view property) {
  if (!holds) broken(property);
}

/// Runs `f`; false: it ended with an Error, which must say something.
template <class F>
bool succeeds(F&& f) {
  try {
    std::forward<F>(f)();
    return true;
  } catch (const Error& error) {
    require(std::string_view{error.what()}.size() > 8, "an Error says what is wrong");
    return false;
  }
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// The two parts of an input on both sides of its first byte ff, which no UTF-8 has.
inline std::pair<std::string_view, std::string_view> parts_of(std::string_view input) {
  const auto at = input.find('\xff');
  if (at == std::string_view::npos) return {input, {}};
  return {input.substr(0, at), input.substr(at + 1)};
}

}  // namespace mpk::fuzz
