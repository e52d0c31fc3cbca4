// Ready ids, from four kinds of file.

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/support/catch.hpp"
#include "tests/tokenizer/tokenizer_files.hpp"

namespace mpk::test {
namespace {

using Ids = std::vector<std::int32_t>;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::string npy(const std::string& dictionary, const std::string& data, int version = 1) {
  const std::size_t prefix = version == 1 ? 10 : 12;
  std::string header = dictionary;
  while ((prefix + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string file = "\x93NUMPY";
  file += static_cast<char>(version);
  file += '\0';
  for (std::size_t i = 0; i < prefix - 8; ++i) file += static_cast<char>(header.size() >> (8 * i) & 0xFF);
  return file + header + data;
}

std::string safetensors(const std::string& header, const std::string& data) {
  std::string length(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(length.data(), &size, 8);
  return length + header + data;
}

Ids load(const std::string& name, const std::string& content) {
  const ScratchDir directory;
  write_file(directory / name, content);
  return load_tokens(directory / name, example("tiny-llama"));
}

ErrorKind refusal(const std::string& name, const std::string& content, const std::string& saying) {
  const auto error = error_of([&] { load(name, content); });
  REQUIRE(error);
  const std::string what = error->what();
  CAPTURE(what);
  CHECK(what.find(saying) != what.npos);
  CHECK(what.find(name) != what.npos);
  return error->kind();
}

const std::string kRow = "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }";
const std::vector<std::int32_t> kThree{1, 2, 4000};

TEMPLATE_TEST_CASE("npy files of every integer type", "[tokenizer]", std::int8_t, std::uint8_t, std::int16_t,
                   std::uint16_t, std::int32_t, std::uint32_t, std::int64_t, std::uint64_t) {
  const std::string descr = fmt::format("{}{}{}", sizeof(TestType) == 1 ? '|' : '<',
                                        std::is_signed_v<TestType> ? 'i' : 'u', sizeof(TestType));
  const std::vector<TestType> values{0, 1, 2, 3, 4, 127};
  for (const int version : {1, 2, 3}) {
    const std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (2, 3), }";
    CHECK(load("x.npy", npy(header, bytes_of(values), version)) == Ids{0, 1, 2, 3, 4, 127});
  }
}

TEST_CASE("npy files as other writers spell them", "[tokenizer]") {
  for (const char* header :
       {"{\"descr\": \"<i4\", \"fortran_order\": False, \"shape\": (3,)}",
        "{'shape':(3,),'fortran_order':False,'descr':'<i4'}",
        "{'descr': '<i4', 'fortran_order': True, 'shape': (3,), }"}) {  // a row is both orders
    CAPTURE(header);
    CHECK(load("x.npy", npy(header, bytes_of(kThree))) == kThree);
  }
  CHECK(load("x.npy", npy("{'descr': '<i4', 'fortran_order': False, 'shape': (0, 5), }", "")).empty());
}

TEST_CASE("npy files that are refused", "[tokenizer]") {
  const std::string data = bytes_of(kThree);
  const auto with = [](const std::string& descr, const std::string& order, const std::string& shape) {
    return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
  };
  CHECK(refusal("x.npy", "", "NUMPY") == ErrorKind::bad_input);
  CHECK(refusal("x.npy", "\x93NUMPY", "version") == ErrorKind::unsupported);
  CHECK(refusal("x.npy", npy(kRow, data, 4), "version 4.0") == ErrorKind::unsupported);
  CHECK(refusal("x.npy", npy(kRow, data).substr(0, 30), "header") == ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy(kRow, data + "x"), "13 bytes") == ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy(kRow, data.substr(1)), "11 bytes") == ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy(with("<f4", "False", "(3,)"), data), "<f4") == ErrorKind::unsupported);
  CHECK(refusal("x.npy", npy(with(">i4", "False", "(3,)"), data), ">i4") == ErrorKind::unsupported);
  CHECK(refusal("x.npy", npy(with("|O", "False", "(3,)"), data), "|O") == ErrorKind::unsupported);
  CHECK(refusal("x.npy", npy(with("<i4", "True", "(1, 3)"), data), "Fortran") == ErrorKind::unsupported);
  CHECK(refusal("x.npy", npy(with("<i4", "False", "()"), data.substr(0, 4)), "shape ()") ==
        ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy(with("<i4", "False", "(1, 1, 3)"), data), "shape") == ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy(with("<i4", "False", "(3)"), data), "malformed") == ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy(with("<i4", "False", "(-3,)"), data), "malformed") == ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy(with("<i4", "no", "(3,)"), data), "malformed") == ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy(with("<i4", "False", "(4611686018427387904, 4)"), data), "hold") ==
        ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy("{'descr': '<i4'}", data), "lacks") == ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy("{'descr': '<i4', 'descr': '<i4'}", data), "unexpected") ==
        ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy("{'evil': 1}", data), "evil") == ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy(kRow + "x", data), "malformed") == ErrorKind::bad_input);
}

TEST_CASE("ids outside of int32 are refused", "[tokenizer]") {
  const auto header = [](const char* descr) {
    return fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': (2,), }}", descr);
  };
  CHECK(refusal("x.npy", npy(header("<i4"), bytes_of<std::int32_t>({1, -1})), "element 1 is -1") ==
        ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy(header("<u4"), bytes_of<std::uint32_t>({1, 1u << 31})), "2147483648") ==
        ErrorKind::bad_input);
  CHECK(refusal("x.npy", npy(header("<i8"), bytes_of<std::int64_t>({1, std::int64_t{1} << 40})),
                "element 1") == ErrorKind::bad_input);
}

TEST_CASE("safetensors: input_ids, or the only integer tensor", "[tokenizer]") {
  const std::string data = bytes_of<std::int64_t>({5, 6, 7, 8}) + bytes_of<std::int32_t>({9, 10});
  const std::string two = R"("a":{"dtype":"I64","shape":[2,2],"data_offsets":[0,32]},)";
  CHECK(load("x.safetensors",
             safetensors("{" + two + R"("input_ids":{"dtype":"I32","shape":[2],"data_offsets":[32,40]}})",
                         data)) == Ids{9, 10});
  CHECK(load("x.safetensors",
             safetensors("{" + two + R"("f":{"dtype":"F32","shape":[2],"data_offsets":[32,40]}})", data)) ==
        Ids{5, 6, 7, 8});
  CHECK(refusal("x.safetensors",
                safetensors("{" + two + R"("b":{"dtype":"I32","shape":[2],"data_offsets":[32,40]}})", data),
                "2 integer tensors") == ErrorKind::bad_input);
  CHECK(refusal("x.safetensors",
                safetensors(R"({"input_ids":{"dtype":"F32","shape":[10],"data_offsets":[0,40]}})", data),
                "not integers") == ErrorKind::bad_input);
  CHECK(refusal("x.safetensors", "short", "x.safetensors") == ErrorKind::bad_input);
}

TEST_CASE("jsonl: a list or input_ids per line", "[tokenizer]") {
  CHECK(load("x.jsonl", "[1, 2]\n{\"input_ids\": [3], \"labels\": [0]}\r\n\n[]\n[4]") == Ids{1, 2, 3, 4});
  CHECK(load("x.jsonl", "").empty());
  CHECK(refusal("x.jsonl", "[1]\n[2\n", "line 2") == ErrorKind::bad_input);
  CHECK(refusal("x.jsonl", "[1]\n\n{\"text\": \"a\"}\n", "line 3") == ErrorKind::bad_input);
  CHECK(refusal("x.jsonl", "[1, \"2\"]", "element 1") == ErrorKind::bad_input);
  CHECK(refusal("x.jsonl", "[[1]]", "element 0") == ErrorKind::bad_input);
  CHECK(refusal("x.jsonl", "[-1]", "element 0") == ErrorKind::bad_input);
  CHECK(refusal("x.jsonl", "[1.0]", "element 0") == ErrorKind::bad_input);
  CHECK(refusal("x.jsonl", "7", "list of ids") == ErrorKind::bad_input);
  CHECK(refusal("x.jsonl", "[1] [2]", "line 1") == ErrorKind::bad_input);
}

TEST_CASE("anything else is text for the checkpoint's tokenizer", "[tokenizer]") {
  CHECK(load("x.txt", "") == Ids{});
  CHECK(load("noextension", "Hello world") == load_tokenizer(example("tiny-llama"))->encode("Hello world"));
  CHECK(refusal("x.txt", "abc\xFF", "offset 3") == ErrorKind::bad_input);
  const auto error = error_of([] { load_tokens("/nonexistent/x.txt", example("tiny-llama")); });
  REQUIRE(error);
  CHECK(error->kind() == ErrorKind::bad_input);
}

}  // namespace
}  // namespace mpk::test
