// FORMAT.md is a promise: what it shows as an example stands there as this program writes it.

#include <cstring>

#include <fmt/format.h>

#include "packer/io/checkpoint_writer.hpp"
#include "packer/pack.hpp"
#include "packer/scales.hpp"
#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"
#include "tests/packer/whole.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

const std::string& format_md() {
  static const std::string text = read_file(std::filesystem::path{MPK_SOURCE_DIR} / "packer" / "FORMAT.md");
  return text;
}

Codes linear_codes(int step_k, int step_n, int bits) {
  Codes codes(32, 64);
  for (int n = 0; n < 64; ++n)
    for (int k = 0; k < 32; ++k)
      codes(k, n) = static_cast<std::uint8_t>((step_k * k + step_n * n) & ((1 << bits) - 1));
  return codes;
}

template <class Pack>
std::vector<std::uint32_t> packed(Pack pack, const Codes& codes, ScalarType type) {
  std::vector<std::uint32_t> words(packed_bytes(K{codes.rows()}, N{codes.cols()}, type) / 4);
  pack(codes, type, std::as_writable_bytes(std::span{words}));
  return words;
}

/// `52fc9630 a741eb85`
std::string quoted(const std::vector<std::uint32_t>& words, std::size_t from, std::size_t count) {
  std::string text = "`";
  for (std::size_t i = from; i < from + count; ++i)
    text += fmt::format("{}{:08x}", i > from ? " " : "", words.at(i));
  return text + "`";
}

/// "0 8 16 .." of a row of scales 0, 1, 2, ...
std::string first_columns(ScaleOrder order) {
  MatrixF scales(1, 64);
  for (int n = 0; n < 64; ++n) scales(0, n) = static_cast<float>(n);
  std::vector<std::byte> bytes(2 * 64);
  whole_scales(scales, DType::F16, order, bytes);
  std::string text;
  for (std::size_t i = 0; i < 12; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, bytes.data() + 2 * i, 2);
    text += fmt::format("{} ", f16_to_float(bits));
  }
  return text + "..\n";
}

}  // namespace

TEST_CASE("worked examples: packed words", "[format.md]") {
  const Codes q4 = linear_codes(3, 5, 4), q8 = linear_codes(7, 13, 8);
  const auto gptq4 = packed(whole_gptq, q4, kU4B8);
  const std::string cells[] = {
      "| gptq, 4 bit | `qweight[0][0..3]` | " + quoted(gptq4, 0, 4),
      "| | `qweight[1][0..1]` | " + quoted(gptq4, 64, 2),
      "| gptq, 8 bit | `qweight[0][0..1]` | " + quoted(packed(whole_gptq, q8, kU8B128), 0, 2),
      "| marlin, 4 bit | row 0, columns 0 .. 5 | " + quoted(packed(whole_marlin, q4, kU4B8), 0, 6),
      "| marlin, 8 bit | row 0, columns 0 .. 5 | " + quoted(packed(whole_marlin, q8, kU8B128), 0, 6),
  };
  for (const std::string& cell : cells) {
    INFO(cell);
    CHECK(mentions(format_md(), cell));
  }
}

TEST_CASE("worked examples: one element", "[format.md]") {
  Codes one = Codes::Zero(32, 128);
  one(21, 75) = 15;
  CHECK(packed(whole_marlin, one, kU4B8).at(1 * 256 + 184) == 0xfu << (4 * 6));
  one(21, 75) = 255;
  CHECK(packed(whole_marlin, one, kU8B128).at(1 * 512 + 369) == 0xffu << (8 * 2));
  CHECK(
      mentions(format_md(), "4 bit, row 1, lane 14, column 184, nibble 6; 8 bit, row 1, column 369, byte 2"));

  Codes three = Codes::Constant(1, 1, 3);
  CHECK(dequantize({{kU4B8, std::nullopt, DType::F16}, three, MatrixF::Constant(1, 1, 0.5f)})(0, 0) == -2.5f);
  CHECK(mentions(format_md(), "`(3 - 8) * 0.5` = -2.5"));
}

TEST_CASE("scale orders", "[format.md]") {
  CHECK(mentions(format_md(), "grouped, columns 0 ..:   " + first_columns(ScaleOrder::grouped)));
  CHECK(mentions(format_md(), "single, columns 0 ..:    " + first_columns(ScaleOrder::single)));
  CHECK(mentions(format_md(), "grouped-quad, columns 0 ..: " + first_columns(ScaleOrder::quad)));
}

TEST_CASE("symmetric zeros of gptq", "[format.md]") {
  const auto zeros = [](int bits) {
    const Scheme scheme{symmetric_integer(bits), std::nullopt, DType::F16};
    const QuantizedMatrix q{scheme, Codes::Zero(32, 32), MatrixF::Ones(1, 32)};
    std::uint32_t word;
    std::memcpy(&word, weight_format_named("gptq")->encode(q)[1].tensor.data.data(), sizeof word);
    return word;
  };
  CHECK(mentions(format_md(), fmt::format("`{:08x}` (4 bit) or `{:08x}` (8 bit)", zeros(4), zeros(8))));
}

TEST_CASE("the container's example is the file our writer makes", "[format.md]") {
  const ScratchDir directory;
  CheckpointWriter writer(directory.path(), {{"s", DType::F16, {1}}, {"w", DType::I32, {1, 2}}}, 1 << 20);
  const std::uint16_t s = 0x3c00;
  const std::uint32_t w[] = {1, 2};
  writer.write("s", {DType::F16, {1}, std::as_bytes(std::span{&s, 1})});
  writer.write("w", {DType::I32, {1, 2}, std::as_bytes(std::span{w})});
  writer.finish();
  const std::string file = read_file(directory / "model.safetensors");
  REQUIRE(file.size() == 8 + 144 + 10);
  const std::string json = file.substr(8, 141);
  CHECK(mentions(format_md(), "    " + json + "\n"));
  CHECK(file.substr(8 + 141, 3) == "   ");

  const auto hex = [](const std::string& bytes) {
    std::string text = "   ";
    for (unsigned char byte : bytes) text += fmt::format(" {:02x}", byte);
    return text + "\n";
  };
  CHECK(mentions(format_md(), hex(file.substr(0, 8))));
  CHECK(mentions(format_md(), hex(file.substr(8 + 144))));
}

TEST_CASE("every format has its section and names its tensors", "[format.md]") {
  for (const WeightFormat& format : weight_formats()) {
    CHECK(mentions(format_md(), fmt::format("\n## {}\n", format.name)));
    for (std::string_view suffix : format.suffixes)
      CHECK(mentions(format_md(), fmt::format("| `P.{}` |", suffix)));
  }
}
