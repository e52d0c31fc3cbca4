// For each rule of the container, a file that breaks only this rule, and an error that names file, tensor and
// reason.

#include "packer/io/safetensors.hpp"
#include "tests/io/container.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

struct Case {
  std::string title, file;
  std::vector<std::string> expected;  ///< in the message
};

/// A file with one tensor "w" over four data bytes.
Case one_tensor(const std::string& title, const std::string& entry, std::vector<std::string> expected) {
  expected.emplace_back("tensor \"w\"");
  return {title, container(R"({"w":)" + entry + "}", "abcd"), std::move(expected)};
}

std::string with_length(std::uint64_t length) {
  std::string file = container("{" + u8_entry("w", 0, 4) + "}", "abcd");
  for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i) & 0xff);
  return file;
}

std::vector<Case> cases() {
  const auto header = [](const std::string& entries) { return container("{" + entries + "}", "abcd"); };
  const std::string w = u8_entry("w", 0, 4);
  std::vector<Case> all{
      {"an empty file", "", {"0 bytes", "download"}},
      {"seven bytes", "\2\0\0\0\0\0\0", {"bytes", "too few"}},
      {"length over the limit", with_length(100'000'001), {"100000001", "100000000"}},
      {"length with the top bit", with_length(0x8000000000000001u), {"9223372036854775809"}},
      {"length past the end", with_length(4096), {"4096", "past the end"}},
      {"length 0", with_length(0), {"'{'"}},
      {"a list", container("[]", ""), {"'{'"}},
      {"leading space", container(" {}", ""), {"'{'"}},
      {"a byte order mark", container("\xef\xbb\xbf{}", ""), {"'{'"}},
      {"padded with NUL", container(std::string("{}\0\0", 4), ""), {"'}'"}},
      {"padded with newlines", container("{}\n", ""), {"'}'"}},
      {"text after the object", container("{} {}", ""), {"JSON"}},
      {"an open object", container(R"({"w":)", "abcd"), {"'}'"}},
      {"a missing comma", header(w + w), {"JSON", "column"}},
      {"a NUL byte between tokens", container(std::string("{\0}", 3), ""), {"NUL", "column 2"}},
      {"broken UTF-8 in a name", header("\"w\xff" + w.substr(2)), {"JSON", "UTF-8"}},
      {"overlong UTF-8", header("\"w\xc0\xaf" + w.substr(2)), {"JSON", "UTF-8"}},
      {"half a surrogate pair", header("\"w\\ud800" + w.substr(2)), {"JSON", "surrogate"}},
      {"nested too deep",
       header(R"("w":{"dtype":"U8","shape":[[4]],"data_offsets":[0,4]})"),
       {"3 levels", "\"w\""}},
      {"nested absurdly",
       container(R"({"w":)" + std::string(1'000'000, '[') + "}", ""),
       {"3 levels", "\"w\""}},
      {"a repeated tensor", header(w + ',' + w), {"repeated", "\"w\""}},
      {"a repeated tensor, escaped", header(w + ",\"\\u0077" + w.substr(2)), {"repeated", "\"w\""}},
      {"a repeated field",
       header(R"("w":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]})"),
       {"repeated", "\"dtype\"", "\"w\""}},
      {"repeated metadata", header(R"("__metadata__":{"a":"1","a":"2"},)" + w), {"repeated", "__metadata__"}},
      {"metadata is a list", header(R"("__metadata__":[],)" + w), {"__metadata__"}},
      {"metadata holds a number", header(R"("__metadata__":{"a":1},)" + w), {"__metadata__", "\"a\""}},

      one_tensor("entry is a number", "4", {"not an object"}),
      one_tensor("no dtype", R"({"shape":[4],"data_offsets":[0,4]})", {"no \"dtype\""}),
      one_tensor("no shape", R"({"dtype":"U8","data_offsets":[0,4]})", {"no \"shape\""}),
      one_tensor("no offsets", R"({"dtype":"U8","shape":[4]})", {"no \"data_offsets\""}),
      one_tensor("unknown field", R"({"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1})",
                 {"unknown", "\"x\""}),
      one_tensor("unknown dtype", R"({"dtype":"u8","shape":[4],"data_offsets":[0,4]})", {"dtype \"u8\""}),
      one_tensor("dtype is no string", R"({"dtype":8,"shape":[4],"data_offsets":[0,4]})", {"dtype"}),
      one_tensor("shape is a number", R"({"dtype":"U8","shape":4,"data_offsets":[0,4]})", {"shape"}),
      one_tensor("offsets are three", R"({"dtype":"U8","shape":[4],"data_offsets":[0,2,4]})",
                 {"data_offsets"}),
      one_tensor("offsets are an object", R"({"dtype":"U8","shape":[4],"data_offsets":{}})",
                 {"data_offsets"}),
      one_tensor("end before begin", R"({"dtype":"U8","shape":[4],"data_offsets":[4,0]})", {"[4, 0]"}),
      one_tensor("half a byte", R"({"dtype":"F4","shape":[7],"data_offsets":[0,4]})", {"28 bits"}),
      one_tensor("two bits too few", R"({"dtype":"F6_E3M2","shape":[5],"data_offsets":[0,4]})", {"30 bits"}),
      one_tensor("size too small", R"({"dtype":"U8","shape":[3],"data_offsets":[0,4]})",
                 {"(3)", "needs 3", "cover 4"}),
      one_tensor("size too big", R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})",
                 {"F32 (2)", "needs 8"}),
      one_tensor("product overflows 64 bits",
                 R"({"dtype":"F32","shape":[4294967296,4294967297],"data_offsets":[0,4]})", {"overflows"}),
      one_tensor("bits overflow 64 bits",
                 R"({"dtype":"U8","shape":[2305843009213693953],"data_offsets":[0,1]})", {"overflows"}),
      one_tensor("overflow behind a zero",
                 R"({"dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0]})", {"overflows"}),
  };
  for (const char* number : {"-1", "-0", "4.0", "4e0", "\"4\"", "null", "true", "18446744073709551616",
                             "1e400", "9223372036854775808"}) {
    const std::string shown = number;
    all.push_back({"extent " + shown,
                   header(R"("w":{"dtype":"U8","shape":[)" + shown + R"(],"data_offsets":[0,4]})"),
                   {shown == "1e400" ? "JSON" : "shape"}});
    all.push_back({"offset " + shown,
                   header(R"("w":{"dtype":"U8","shape":[4],"data_offsets":[0,)" + shown + "]}"),
                   {shown == "1e400" ? "JSON" : "data_offsets"}});
  }
  const auto extents = [&](const std::string& title, std::uint64_t a0, std::uint64_t a1, std::uint64_t b0,
                           std::uint64_t b1, std::vector<std::string> expected) {
    all.push_back({title, header(u8_entry("a", a0, a1) + ',' + u8_entry("b", b0, b1)), std::move(expected)});
  };
  extents("first tensor not at 0", 1, 2, 2, 4, {"hole of 1", "\"a\"", "beginning"});
  extents("a hole", 0, 1, 3, 4, {"hole of 2", "\"a\"", "\"b\"", "offset 3"});
  extents("an overlap", 0, 3, 2, 4, {"overlaps", "\"a\"", "\"b\"", "offset 2"});
  extents("one inside the other", 0, 4, 1, 2, {"overlaps", "\"a\"", "\"b\""});
  extents("the same bytes twice", 0, 4, 0, 4, {"overlaps", "\"a\"", "\"b\""});
  extents("an empty tensor inside another", 0, 4, 2, 2, {"overlaps", "\"a\"", "\"b\""});
  extents("an empty tensor behind the end", 0, 4, 5, 5, {"hole", "\"b\""});
  extents("bytes left over", 0, 1, 1, 3, {"1 bytes", "\"b\"", "no tensor"});
  extents("data too short", 0, 4, 4, 6, {"\"b\"", "6", "4", "download"});
  all.push_back({"data but no tensor", container("{}", "abcd"), {"4 bytes", "no tensor"}});
  return all;
}

}  // namespace

TEST_CASE("each rule of the container is enforced", "[io][safetensors]") {
  const ScratchDir dir;
  for (const auto& [title, file, expected] : cases()) {
    DYNAMIC_SECTION(title) {
      write_file(dir / "broken.safetensors", file);
      auto parts = expected;
      parts.emplace_back("broken.safetensors");
      require_error(ErrorKind::bad_input, parts, [&] { SafetensorsFile::open(dir / "broken.safetensors"); });
    }
  }
}

TEST_CASE("what is no safetensors file at all is recognized", "[io][safetensors]") {
  const ScratchDir dir;
  const auto file = dir / "model.safetensors";
  const auto says = [&](const std::string& content, const char* hint) {
    write_file(file, content);
    require_error(ErrorKind::bad_input, {"model.safetensors", hint}, [&] { SafetensorsFile::open(file); });
  };
  says("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "git lfs pull");
  says("PK\x03\x04 and what follows", "PyTorch");
  says("<!doctype html><html>Not found</html>", "web page");
  require_error(ErrorKind::bad_input, {"absent.safetensors", "No such file"},
                [&] { SafetensorsFile::open(dir / "absent.safetensors"); });
  require_error(ErrorKind::bad_input, {"not a regular file"}, [&] { SafetensorsFile::open(dir.path()); });
}

TEST_CASE("a file cannot drive the terminal through a message", "[io][safetensors]") {
  const auto file = container(R"({"\u001b[2J)" + std::string(5000, 'x') + R"(":{"dtype":"\u0007"}})", "");
  const auto error = error_of([&] { parse_safetensors(bytes_of(file)); });
  REQUIRE(error);
  const std::string what = error->what();
  CHECK(what.find('\x1b') == std::string::npos);
  CHECK(what.find('\x07') == std::string::npos);
  CHECK(what.size() < 1000);
}
