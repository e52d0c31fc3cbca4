#pragma once
// Tests that something is refused, with which kind of error.

#include <optional>

#include "packer/format/error.hpp"

namespace mpk::test {

/// The Error that `f` ends with; none if it returns.
template <class F>
std::optional<Error> error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

}  // namespace mpk::test
