#include <numeric>
#include <set>

#include "cli/pipeline/calibration.hpp"
#include "packer/format/error.hpp"
#include "tests/support/catch.hpp"

using namespace mpk;

namespace {

std::vector<std::int32_t> counting(std::int32_t count) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

}  // namespace

TEST_CASE("without a seed the windows are the first ones", "[calibration]") {
  REQUIRE(calibration_windows(counting(100), 3, 10, {}) == counting(30));
}

TEST_CASE("with a seed they are distinct whole windows of the stream, the same ones each time",
          "[calibration]") {
  const auto drawn = calibration_windows(counting(1003), 20, 10, 42);
  REQUIRE(drawn == calibration_windows(counting(1003), 20, 10, 42));
  REQUIRE(drawn != calibration_windows(counting(1003), 20, 10, 43));
  std::set<std::int32_t> starts;
  for (std::size_t w = 0; w < 20; ++w) {
    const std::int32_t start = drawn[w * 10];
    REQUIRE(start % 10 == 0);
    for (std::int32_t i = 0; i < 10; ++i) REQUIRE(drawn[w * 10 + static_cast<std::size_t>(i)] == start + i);
    starts.insert(start);
  }
  REQUIRE(starts.size() == 20);
}

TEST_CASE("a text that is too short is refused with the numbers", "[calibration]") {
  try {
    calibration_windows(counting(29), 3, 10, {});
    FAIL("accepted");
  } catch (const Error& e) {
    REQUIRE(e.kind() == ErrorKind::bad_input);
    REQUIRE(std::string{e.what()}.find("29 tokens, 2 windows") != std::string::npos);
  }
}
