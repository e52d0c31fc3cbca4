#include "packer/io/json_file.hpp"
#include "tests/io/container.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

TEST_CASE("a document is what nlohmann::json makes of it", "[io][json]") {
  const std::string text =
      R"({"a": [1, -2, 3.5, true, null, "x", [], {}, [[{"b": {"c": [0]}}]]], "d": {"e": 1e3}, "": 0})";
  CHECK(parse_json(text) == nlohmann::json::parse(text));
  CHECK(parse_json("7") == 7);
  CHECK(parse_json("18446744073709551615").get<std::uint64_t>() == 18446744073709551615u);
}

TEST_CASE("JSON is refused with position", "[io][json]") {
  const auto refused = [](const std::string& text, const std::vector<std::string>& parts) {
    CAPTURE(text);
    require_error(ErrorKind::bad_input, parts, [&] { parse_json(text); });
  };
  refused("", {"JSON"});
  refused("{\"a\": 1,\n \"b\": }", {"line 2, column 7"});
  refused("{} x", {"line 1, column 4"});
  refused("{\"a\": 1,\n  \"a\": 2}", {"\"a\" is repeated", "line 2, column 5"});
  refused("{\"a\": {\"b\": [{\"c\": 1, \"c\": 1}]}}", {"\"c\" is repeated", "in \"b\"", "in \"a\""});
  refused(std::string("[1]\0", 4), {"NUL byte", "line 1, column 4"});
  refused("[\"\xff\"]", {"UTF-8"});
  refused("[1e999]", {"1e999"});
  refused("[NaN]", {"JSON"});
}

TEST_CASE("depth counts open objects and arrays", "[io][json]") {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK_NOTHROW(parse_json(nested(64)));
  require_error(ErrorKind::bad_input, {"64 levels", "column 65"}, [&] { parse_json(nested(65)); });
  CHECK_NOTHROW(parse_json("1", {.max_depth = 0}));
  require_error(ErrorKind::bad_input, {"1 levels"}, [&] { parse_json("[{}]", {.max_depth = 1}); });
  // A million is no danger to the stack, whatever the bound.
  CHECK_NOTHROW(parse_json(nested(1'000'000), {.max_depth = 1'000'000}));
}

TEST_CASE("JSON files have a size limit and errors name them", "[io][json]") {
  const ScratchDir dir;
  write_file(dir / "a.json", "[1, 2]");
  CHECK(read_json_file(dir / "a.json") == nlohmann::json{1, 2});
  CHECK(read_json_file(dir / "a.json", {.max_bytes = 6}) == nlohmann::json{1, 2});
  require_error(ErrorKind::bad_input, {"6 bytes", "at most 5", "a.json"},
                [&] { read_json_file(dir / "a.json", {.max_bytes = 5}); });
  write_file(dir / "b.json", "[1, 2");
  require_error(ErrorKind::bad_input, {"b.json", "line 1"}, [&] { read_json_file(dir / "b.json"); });
  require_error(ErrorKind::bad_input, {"c.json", "No such file"}, [&] { read_json_file(dir / "c.json"); });
}
