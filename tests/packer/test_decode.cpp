// What a decoder must not believe.

#include <cstring>

#include <fmt/format.h>

#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

const Scheme kScheme{kU4B8, GroupSize{128}, DType::F16};
constexpr K kK{256};
constexpr N kN{256};

/// Encoded tensors that a test may damage.
struct Encoded {
  const WeightFormat* format;
  Scheme scheme;
  std::vector<Part> parts;

  Encoded(const char* name, const Scheme& with, unsigned with_seed)
      : format{weight_format_named(name)},
        scheme{with},
        parts{format->encode(random_matrix(with, kK, kN, with_seed))} {}

  Tensor& operator[](std::string_view suffix) {
    for (Part& part : parts)
      if (part.suffix == suffix) return part.tensor;
    FAIL("no part " << suffix);
    return parts.front().tensor;
  }
  void set_word(std::string_view suffix, std::size_t index, std::uint32_t word) {
    std::memcpy((*this)[suffix].data.data() + 4 * index, &word, 4);
  }
  QuantizedMatrix decode() const { return format->decode(views_of(parts), scheme, kK, kN); }
  std::string refused() const {
    return error_of(ErrorKind::bad_input, [&] { decode(); });
  }
};

}  // namespace

TEST_CASE("each missing, additional, mistyped, misshapen or truncated tensor is named", "[decode]") {
  for (const char* name : {"marlin", "gptq", "gptq-v2", "marlin-original"})
    for (std::size_t i = 0; i < weight_format_named(name)->suffixes.size(); ++i) {
      const WeightFormat& format = *weight_format_named(name);
      const std::string suffix{format.suffixes[i]};
      CAPTURE(format.name, suffix);
      const Encoded good{format.name, kScheme, seed()};
      {
        Encoded bad = good;
        bad.parts.erase(bad.parts.begin() + static_cast<std::ptrdiff_t>(i));
        CHECK(mentions(bad.refused(), "no " + suffix));
      }
      {
        Encoded bad = good;
        bad[suffix].dtype = bad[suffix].dtype == DType::I32 ? DType::U32 : DType::BF16;
        CHECK(mentions(bad.refused(), suffix + " is "));
      }
      {
        Encoded bad = good;
        Shape& shape = bad[suffix].shape;
        if (shape.size() == 2) {
          shape = {shape[0] * 2, shape[1] / 2};
        } else {
          shape = {shape[0], 1};
        }
        CHECK(mentions(bad.refused(), suffix + " has shape"));
      }
      {
        Encoded bad = good;
        bad[suffix].data.pop_back();
        CHECK(mentions(bad.refused(), suffix + " has"));
      }
      {
        Encoded bad = good;
        bad.parts.push_back({"perm", bad[suffix]});
        CHECK(mentions(bad.refused(), "perm"));
      }
    }
}

TEST_CASE("scales must be finite", "[decode]") {
  const auto [format, suffix] = GENERATE(
      table<const char*, const char*>({{"marlin", "scales"}, {"gptq", "scales"}, {"marlin-original", "s"}}));
  Encoded bad{format, kScheme, seed()};
  bad.set_word(suffix, 5, GENERATE(0x7c003c00u, 0x3c00fe00u));
  const std::string text = bad.refused();
  CHECK(mentions(text, "not finite"));
  CHECK(mentions(text, std::string{"in "} + suffix));
}

TEST_CASE("gptq zeros must be symmetric in every field if the scheme says so", "[decode]") {
  Encoded bad{"gptq", kScheme, seed()};
  SECTION("one field in the last word") {
    bad.set_word("qzeros", 63, 0x77777677u);
    CHECK(mentions(bad.refused(), "qzeros: group 1, column 250 stores 6"));
  }
  SECTION("version 2") {
    for (std::size_t i = 0; i < 64; ++i) bad.set_word("qzeros", i, 0x88888888u);
    CHECK(mentions(bad.refused(), "stores 8, symmetric 4-bit zeros are 7 in version 1"));
  }
}

TEST_CASE("symmetric zeros tell the version of GPTQ, whatever is claimed", "[recognize]") {
  const auto [name, other] =
      GENERATE(table<const char*, const char*>({{"gptq", "gptq_v2"}, {"gptq-v2", "gptq"}}));
  const ScalarType type =
      GENERATE(values<ScalarType>({kU4B8, kU8B128, symmetric_integer(2), symmetric_integer(3)}));
  const Encoded file{name, {type, GroupSize{128}, DType::F16}, seed()};
  const auto stored = recognize(views_of(file.parts), {.method = "gptq", .dialect = other});
  REQUIRE(stored);
  CHECK(stored->format->name == std::string{name});
  CHECK(stored->geometry.scheme.type == type);
}

TEST_CASE("gptq rows must be in their original order", "[decode]") {
  Encoded bad{"gptq", kScheme, seed()};
  const auto [row, group] = GENERATE(table<std::size_t, std::uint32_t>(
      {{0, 1}, {127, 1}, {128, 0}, {255, 2}, {255, 0xffffffff}, {3, 0x10000}}));
  bad.set_word("g_idx", row, group);
  CHECK(mentions(bad.refused(), fmt::format("g_idx: row {}", row)));
}

TEST_CASE("headers of other formats are none of ours; contradictory ones are refused", "[recognize]") {
  const auto view = [](DType dtype, Shape shape) { return TensorView{dtype, std::move(shape), {}}; };
  const auto i32 = [&](Shape shape) { return view(DType::I32, std::move(shape)); };
  const auto f16 = [&](Shape shape) { return view(DType::F16, std::move(shape)); };

  CHECK_FALSE(recognize({}));
  CHECK_FALSE(recognize({{"weight", f16({64, 128})}}));
  CHECK_FALSE(recognize({{"weight", f16({64, 128})}, {"bias", f16({64})}}));
  CHECK_FALSE(recognize({{"weight_packed", i32({64, 16})}, {"weight_scale", f16({64, 1})}}));

  const auto contradicts = [](const PartViews& parts) {
    return error_of(ErrorKind::bad_input, [&] { recognize(parts); });
  };
  CHECK(mentions(contradicts({{"qweight", i32({8, 100})}, {"scales", f16({1, 64})}}), "format marlin"));
  CHECK(mentions(contradicts({{"qweight", i32({8, 64})}, {"scales", f16({1, 64})}}), "2 or 4 words"));
  CHECK(mentions(contradicts({{"qweight", i32({8, 128})}, {"scales", f16({3, 64})}}), "3 groups"));
  CHECK(mentions(contradicts({{"qweight", i32({8, 128})}, {"scales", f16({64})}}), "scales has shape (64)"));
  CHECK(mentions(contradicts({{"qweight", i32({8, 128})}, {"scales", f16({0, 64})}}), "(0, 64)"));
  CHECK(mentions(contradicts({{"qweight", view(DType::I16, {8, 128})}, {"scales", f16({1, 64})}}), "I16"));
  CHECK(mentions(contradicts({{"B", i32({8, 1024})}, {"s", f16({1, std::int64_t{1} << 40})}}), "shape"));

  const auto gptq = [&](Shape qweight, Shape g_idx, Shape scales) {
    return contradicts({{"qweight", i32(std::move(qweight))},
                        {"qzeros", i32({1, 8})},
                        {"scales", f16(std::move(scales))},
                        {"g_idx", i32(std::move(g_idx))}});
  };
  CHECK(mentions(gptq({16, 64}, {127}, {1, 64}), "g_idx has shape (127)"));
  CHECK(mentions(gptq({16, 64}, {0}, {1, 64}), "g_idx"));
  CHECK(mentions(gptq({16, 64}, {128, 1}, {1, 64}), "g_idx"));
  CHECK(mentions(gptq({12, 100}, {96}, {1, 100}), "whole number of bits"));
  CHECK(mentions(gptq({12, 32}, {48}, {2, 32}), "qzeros have 1 groups"));
  CHECK(mentions(gptq({16, 64}, {128}, {1, 32}), "columns"));
  CHECK(mentions(gptq({16, 64}, {128}, {1, 64}), "qweight has 0 bytes"));

  // well formed, but no kernel takes K = 64 with N = 64
  error_of(ErrorKind::unsupported, [&] {
    recognize({{"qweight", i32({4, 128})}, {"scales", f16({1, 64})}});
  });
}

// Damage of every sort: the decoder refuses, or the damage shows in what it returns. It never crashes (run
// under the sanitizers) and never returns what was there before.
TEST_CASE("no corruption goes unseen", "[decode][fuzz]") {
  int refused = 0, different = 0;
  for (unsigned trial = 0; trial < 200; ++trial) {
    std::mt19937 random{trial};  // the same 200 on every run
    CAPTURE(trial);
    constexpr const char* kNames[] = {"marlin", "gptq", "gptq-v2", "marlin-original"};
    const WeightFormat& format = *weight_format_named(kNames[trial % std::size(kNames)]);
    Encoded damaged{format.name, kScheme, trial};
    const QuantizedMatrix before = damaged.decode();

    Tensor& victim = damaged.parts[random() % damaged.parts.size()].tensor;
    switch (random() % 6) {
      case 0:
        victim.data.resize(random() % victim.data.size());
        break;
      case 1:
        victim.data.resize(victim.data.size() + 1 + random() % 64);
        break;
      case 2:
        victim.dtype = static_cast<DType>((static_cast<unsigned>(victim.dtype) + 1 + random() % 21) % 22);
        break;
      case 3:
        victim.shape[random() % victim.shape.size()] = static_cast<std::int32_t>(random());
        break;
      case 4:
        victim.shape.push_back(1);
        break;
      default:
        victim.data[random() % victim.data.size()] ^= static_cast<std::byte>(1 + random() % 255);
    }
    try {
      const QuantizedMatrix after = damaged.decode();
      CHECK_FALSE(identical(after, before));
      ++different;
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::bad_input);
      ++refused;
    }
    try {
      recognize(views_of(damaged.parts));
    } catch (const Error&) {  // either answer is fine; crashing is not
    }
  }
  CHECK(refused > 100);
  CHECK(different > 10);
}
