#pragma once
// Tests that something is refused, with which kind of error and in which words.

#include <optional>
#include <string>

#include "packer/format/error.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/errors.hpp"

namespace mpk::test {

inline void require_error(const std::optional<Error>& error, ErrorKind kind, const std::string& text) {
  REQUIRE(error.has_value());
  INFO(error->what());
  REQUIRE(error->kind() == kind);
  REQUIRE(std::string{error->what()}.find(text) != std::string::npos);
}

}  // namespace mpk::test
