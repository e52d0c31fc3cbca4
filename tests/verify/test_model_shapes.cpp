#include "packer/format/error.hpp"
#include "tests/support/catch.hpp"
#include "verify/model_shapes.hpp"

using namespace mpk;

TEST_CASE("shapes by model and by numbers", "[verify]") {
  REQUIRE(shapes_named("llama3-8b").size() == 4);
  REQUIRE(shapes_named("4096x14336").at(0).k == K{4096});
  REQUIRE(shapes_named("4096x14336").at(0).n == N{14336});
  for (const char* name : {"", "llama", "4096", "4096x", "x4096", "4096x1y", "0x64", "-1x64"}) {
    CAPTURE(name);
    REQUIRE_THROWS_AS(shapes_named(name), Error);
  }
}
