// The README's table of conversions is what the program says.

#include "cli/pipeline/format_matrix.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

TEST_CASE("the README has the table of conversions", "[formats]") {
  const std::string readme = read_file(std::filesystem::path{MPK_SOURCE_DIR} / "README.md");
  CHECK(readme.find(markdown(format_matrix())) != std::string::npos);
}

TEST_CASE("the table knows what is exact, rounded and refused", "[formats]") {
  const auto cell = [](const std::string& format, const std::string& kind, const std::string& target) {
    for (const FormatRow& row : format_matrix())
      if (row.format == format && row.kind == kind)
        for (const FormatCell& each : row.cells)
          if (each.target == target) return each.outcome;
    FAIL(format << " " << kind << " " << target);
    return Outcome::refused;
  };
  CHECK(cell("gptq", "4-bit symmetric", "marlin") == Outcome::exact);
  CHECK(cell("gptq", "4-bit symmetric", "marlin-24") == Outcome::if_24);
  CHECK(cell("gptq", "4-bit asymmetric", "marlin-original") == Outcome::refused);
  CHECK(cell("gptq", "3-bit symmetric", "marlin") == Outcome::widened);
  CHECK(cell("gptq", "4-bit symmetric, act-order", "awq") == Outcome::refused);
  CHECK(cell("ct-float-quantized", "FP8, one scale", "marlin") == Outcome::rescaled);
  CHECK(cell("awq", "4-bit asymmetric", "float") == Outcome::floats);
}
