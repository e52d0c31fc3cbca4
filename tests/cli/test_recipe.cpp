#include "cli/pipeline/recipe.hpp"
#include "packer/format/error.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/errors.hpp"

using namespace mpk;

TEST_CASE("the last matching override wins, ignore beats both", "[recipe]") {
  Recipe recipe;
  recipe.scheme = {kU4B8, GroupSize{128}, DType::F16};
  recipe.overrides.push_back(parse_layer_override("down_proj=bits:8,group:64"));
  recipe.overrides.push_back(parse_layer_override("layers\\.0\\..*down_proj=group:-1"));
  recipe.ignore.push_back(parse_regex("q_proj$", "--ignore"));

  REQUIRE(recipe.scheme_of("model.layers.0.mlp.up_proj") == recipe.scheme);
  REQUIRE(recipe.scheme_of("model.layers.1.mlp.down_proj") == Scheme{kU8B128, GroupSize{64}, DType::F16});
  REQUIRE(recipe.scheme_of("model.layers.0.mlp.down_proj") == Scheme{kU8B128, std::nullopt, DType::F16});
  REQUIRE(recipe.scheme_of("model.layers.0.self_attn.q_proj") == std::nullopt);
}

TEST_CASE("an override may contain '=' in its pattern", "[recipe]") {
  REQUIRE(parse_layer_override("a(?=b)=bits:8").bits == 8);
}

TEST_CASE("an override turns zero points on and off and keeps the rest", "[recipe]") {
  Recipe recipe;
  recipe.scheme.group_size = GroupSize{128};
  recipe.overrides.push_back(parse_layer_override("proj=asymmetric:1"));
  recipe.overrides.push_back(parse_layer_override("v_proj=bits:8"));
  recipe.overrides.push_back(parse_layer_override("o_proj=asymmetric:0"));
  Scheme expected = recipe.scheme;
  REQUIRE(recipe.scheme_of("o_proj") == expected);
  expected.type = kU4;
  expected.zero_points = ZeroPoints::integer;
  REQUIRE(recipe.scheme_of("q_proj") == expected);
  expected.type = kU8;
  REQUIRE(recipe.scheme_of("v_proj") == expected);
}

TEST_CASE("overrides that say nothing or nonsense are refused", "[recipe]") {
  for (const char* text : {"", "down_proj", "=bits:4", "down=", "down=bits", "down=bits:5", "down=bits:x",
                           "down=bits:4x", "down=group:100", "down=size:4", "down=asymmetric:2",
                           "do(wn=bits:4", "down=bits:99999999999999999999"}) {
    CAPTURE(text);
    REQUIRE(test::error_of([&] { parse_layer_override(text); }).value().kind() == ErrorKind::usage);
  }
}
