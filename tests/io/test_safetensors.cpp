// What a valid container means.

#include "packer/io/safetensors.hpp"
#include "tests/io/container.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

TEST_CASE("the worked example of the format reads as drawn", "[io][safetensors]") {
  // FORMAT.md, "Container": I32 (1, 2) = {1, 2} and F16 (1) = {1.0}; 141 bytes of JSON and 3 spaces.
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"I32","shape":[1,2],"data_offsets":[0,8]},)"
      R"("s":{"dtype":"F16","shape":[1],"data_offsets":[8,10]}}   )";
  const std::string data{"\x01\x00\x00\x00\x02\x00\x00\x00\x00\x3c", 10};
  const std::string file = container(header, data);
  REQUIRE(header.size() == 144);
  REQUIRE(file.substr(0, 8) == std::string("\x90\0\0\0\0\0\0\0", 8));

  const ScratchDir dir;
  write_file(dir / "model.safetensors", file);
  const auto opened = SafetensorsFile::open(dir / "model.safetensors");
  CHECK(opened.header().size_bytes == 152);
  CHECK(text_of(opened.header_bytes()) == file.substr(0, 152));
  CHECK(opened.header().metadata == std::map<std::string, std::string>{{"format", "pt"}});
  REQUIRE(opened.header().tensors.size() == 2);
  const auto w = opened.view(opened.header().tensors.at("w"));
  CHECK(w.dtype == DType::I32);
  CHECK(w.shape == Shape{1, 2});
  CHECK(text_of(w.data) == data.substr(0, 8));
  const auto s = opened.view(opened.header().tensors.at("s"));
  CHECK(s.dtype == DType::F16);
  CHECK(s.shape == Shape{1});
  CHECK(text_of(s.data) == data.substr(8));
}

TEST_CASE("legal oddities are accepted", "[io][safetensors]") {
  const auto accepts = [](const std::string& header, const std::string& data) {
    const auto file = container(header, data);
    return parse_safetensors(bytes_of(file));
  };
  SECTION("no tensors at all") {
    CHECK(accepts("{}", "").tensors.empty());
  }
  SECTION("a scalar has rank 0 and one element") {
    const auto header = accepts(R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", "abcd");
    CHECK(header.tensors.at("s").shape.empty());
  }
  SECTION("tensors without elements stand anywhere between others") {
    const auto header =
        accepts("{" + u8_entry("a", 0, 2) + ',' + u8_entry("b", 2, 2) + ',' + u8_entry("c", 2, 3) + ',' +
                    R"("d":{"dtype":"F64","shape":[5,0,7],"data_offsets":[3,3]}})",
                "abc");
    CHECK(header.tensors.size() == 4);
  }
  SECTION("any order of entries and fields, white space, unaligned header") {
    const auto header = accepts("{ " + u8_entry("b", 1, 3) + " ,\n " +
                                    R"("a":{"data_offsets":[0,1],"shape":[1,1,1],"dtype":"BOOL"}} )",
                                "abc");
    CHECK(header.tensors.at("a").begin == 0);
    CHECK(header.tensors.at("b").begin == 1);
  }
  SECTION("names are any strings") {
    const auto header =
        accepts("{" + u8_entry("", 0, 1) + ',' + u8_entry("h\xc3\xa9\\u00e9\\n", 1, 2) + "}", "ab");
    CHECK(header.tensors.contains(""));
    CHECK(header.tensors.contains("h\xc3\xa9\xc3\xa9\n"));
  }
  SECTION("sub-byte types count elements") {
    const auto header = accepts(R"({"q":{"dtype":"F4","shape":[3,2],"data_offsets":[0,3]},)"
                                R"("r":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[3,6]}})",
                                "abcdef");
    CHECK(header.tensors.at("q").shape == Shape{3, 2});
  }
}

TEST_CASE("tensor_bytes is exact to the limit and refuses beyond it", "[io][safetensors]") {
  const std::int64_t big = std::int64_t{1} << 59;
  CHECK(tensor_bytes(DType::U8, {big - 1, 2}) == 2 * (static_cast<std::uint64_t>(big) - 1));
  CHECK(tensor_bytes(DType::F4, {6}) == 3);
  CHECK(tensor_bytes(DType::F64, {}) == 8);
  CHECK(tensor_bytes(DType::F64, {0, big / 8}) == 0);
  CHECK(error_of([&] { tensor_bytes(DType::U8, {big, 2}); }));
  CHECK(error_of([&] { tensor_bytes(DType::U8, {0, big, big}); }));  // in whatever order
  CHECK(error_of([&] { tensor_bytes(DType::U8, {big, big, 0}); }));
  CHECK(error_of([&] { tensor_bytes(DType::U8, {-1}); }));
  CHECK(error_of([&] { tensor_bytes(DType::F4, {3}); }));
}
