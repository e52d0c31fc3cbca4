// The table: what each row takes, refuses, promises and gives back.

#include <algorithm>
#include <limits>
#include <set>

#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

constexpr std::nullopt_t kChannelwise = std::nullopt;

struct Case {
  const char* format;
  Scheme scheme;
  int k, n;
};

Scheme scheme(ScalarType type, std::optional<int> group_size, DType scale_dtype = DType::F16) {
  return {type, group_size ? std::optional{GroupSize{*group_size}} : std::nullopt, scale_dtype};
}

Scheme asymmetric(ScalarType type, std::optional<int> group_size) {
  Scheme result = scheme(type, group_size);
  result.zero_points = ZeroPoints::integer;
  return result;
}
Scheme scrambled(Scheme scheme) {
  scheme.act_order = true;
  return scheme;
}

const WeightFormat& format_named(const char* name) {
  const WeightFormat* format = weight_format_named(name);
  REQUIRE(format);
  return *format;
}

const std::vector<Case> kAccepted = {
    {"marlin", scheme(kU4B8, 128), 256, 64},
    {"marlin", scheme(kU4B8, 128), 128, 64},  // one group
    {"marlin", scheme(kU4B8, 32, DType::BF16), 128, 192},
    {"marlin", scheme(kU8B128, 64), 64, 128},
    {"marlin", scheme(kU8B128, kChannelwise, DType::BF16), 384, 64},
    {"marlin", scheme(kU8B128, 32), 192, 128},
    {"marlin-original", scheme(kU4B8, 128), 128, 256},
    {"marlin-original", scheme(kU4B8, 128), 384, 512},
    {"marlin-original", scheme(kU4B8, kChannelwise), 256, 256},
    {"gptq", scheme(kU4B8, 128), 256, 32},
    {"gptq", scheme(kU4B8, 16, DType::BF16), 96, 32},
    {"gptq", scheme(kU8B128, 32), 288, 96},
    {"gptq", scheme(kU8B128, kChannelwise), 32, 160},
    {"gptq", scheme(kU4B8, 512), 512, 64},
    {"gptq", scheme(symmetric_integer(3), 32), 96, 64},
    {"gptq", scheme(symmetric_integer(2), kChannelwise), 96, 64},
    {"gptq", asymmetric(unsigned_integer(3), 32), 96, 64},
    {"gptq", asymmetric(kU4, 64), 128, 96},
    {"gptq", scrambled(scheme(kU4B8, 32)), 128, 96},
    {"gptq-v2", scheme(kU8B128, 64), 128, 96},
    {"gptq-v2", asymmetric(kU8, 64), 128, 96},
    {"gptq-v2", scrambled(asymmetric(unsigned_integer(2), 32)), 128, 96},
};

struct Refusal {
  Case of;
  std::vector<const char*> says;
};
const std::vector<Refusal> kRefused = {
    {{"marlin", scheme(kU4B8, kChannelwise), 64, 64}, {"K = 64", "N = 64"}},
    {{"marlin", scheme(kU4B8, kChannelwise), 128, 96}, {"N = 96", "% 64"}},
    {{"marlin", scheme(kU4B8, kChannelwise), 96, 128}, {"K = 96", "gptq"}},
    {{"marlin", scheme(kU4B8, 256), 512, 64}, {"group_size", "256"}},
    {{"marlin", scheme(kU4B8, 16), 128, 64}, {"16"}},
    {{"marlin", scheme(kU4B8, 128), 4000, 64}, {"128 does not divide K = 4000", "32 does"}},
    {{"marlin-original", scheme(kU8B128, 128), 128, 256}, {"u8b128", "use format marlin"}},
    {{"marlin-original", scheme(kU4B8, 128, DType::BF16), 128, 256}, {"BF16", "F16"}},
    {{"marlin-original", scheme(kU4B8, 64), 128, 256}, {"group_size", "64"}},
    {{"marlin-original", scheme(kU4B8, kChannelwise), 64, 256}, {"K = 64"}},
    {{"marlin-original", scheme(kU4B8, 128), 128, 128}, {"N = 128"}},
    {{"gptq", scheme(kU4B8, kChannelwise), 48, 64}, {"K = 48"}},
    {{"gptq", scheme(kU8B128, kChannelwise), 64, 8}, {"N = 8"}},
    {{"gptq", scheme(kU4B8, 64), 96, 32}, {"64 does not divide K = 96", "32 does"}},
    {{"gptq", scheme(kU4B8, 128), 64, 32}, {"128 does not divide K = 64", "64 does"}},
};

}  // namespace

TEST_CASE("rows of the table have a name, a summary and two tensors or more", "[formats]") {
  std::vector<std::string_view> names;
  for (const WeightFormat& format : weight_formats()) {
    names.push_back(format.name);
    CHECK(weight_format_named(format.name) == &format);
    CHECK(std::string_view{format.summary}.size() > 10);
    CHECK(format.suffixes.size() >= 2);
  }
  CHECK(std::set(names.begin(), names.end()).size() == names.size());
  CHECK(weight_format_named("ggml") == nullptr);
}

TEST_CASE("decode inverts encode bit for bit, and specs foretold the tensors", "[formats]") {
  const Case c = GENERATE(from_range(kAccepted));
  const WeightFormat& format = format_named(c.format);
  const K k{c.k};
  const N n{c.n};
  CAPTURE(c.format, c.k, c.n, c.scheme.type.bits);
  REQUIRE_FALSE(format.refusal(c.scheme, k, n));

  const QuantizedMatrix matrix = random_matrix(c.scheme, k, n, seed(), format.lowest_zero);
  const std::vector<Part> parts = format.encode(matrix);
  const std::vector<PartSpec> specs = format.specs(c.scheme, k, n);
  REQUIRE(parts.size() == specs.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    CHECK(specs[i] == PartSpec{parts[i].suffix, parts[i].tensor.dtype, parts[i].tensor.shape});
    CHECK(parts[i].tensor.data.size() == num_bytes(specs[i]));
    CHECK(parts[i].suffix == format.suffixes.at(i));
  }
  CHECK(identical(format.decode(views_of(parts), c.scheme, k, n), matrix));

  SECTION("the format, K, N and the scheme are seen in the headers") {
    PartViews views = views_of(parts);
    const std::vector<std::byte> bias(static_cast<std::size_t>(c.n) * 2);
    if (GENERATE(false, true)) views["bias"] = {DType::F16, {c.n}, bias};
    Claims claims;
    if (format.family == std::string_view{"gptq-v2"}) claims.dialect = "gptq_v2";
    const auto stored = recognize(views, claims);
    REQUIRE(stored);
    CHECK(stored->format == &format);
    CHECK(stored->geometry.k == k);
    CHECK(stored->geometry.n == n);
    Scheme expected = c.scheme;
    if (expected.groups(k).value == 1) expected.group_size.reset();
    CHECK(stored->geometry.scheme == expected);
  }

  SECTION("at addresses of any alignment") {
    std::vector<std::vector<std::byte>> moved;
    for (const Part& part : parts) {
      moved.emplace_back(part.tensor.data.size() + 3);
      std::ranges::copy(part.tensor.data, moved.back().begin() + 3);
    }
    PartViews views = views_of(parts);
    for (std::size_t i = 0; i < parts.size(); ++i)
      views[parts[i].suffix].data = std::span{moved[i]}.subspan(3);
    CHECK(identical(format.decode(views, c.scheme, k, n), matrix));
  }
}

TEST_CASE("what a format cannot hold is refused with numbers, by refusal, encode and decode alike",
          "[formats]") {
  const Refusal c = GENERATE(from_range(kRefused));
  const WeightFormat& format = format_named(c.of.format);
  const K k{c.of.k};
  const N n{c.of.n};
  CAPTURE(c.of.format, c.of.k, c.of.n);
  const auto why = format.refusal(c.of.scheme, k, n);
  REQUIRE(why);
  for (const char* part : c.says) {
    INFO(*why << " / " << part);
    CHECK(mentions(*why, part));
  }
  const QuantizedMatrix matrix{c.of.scheme, Codes::Zero(k.value, n.value),
                               MatrixF::Ones(c.of.scheme.groups(k).value, n.value)};
  CHECK(error_of(ErrorKind::unsupported, [&] { format.encode(matrix); }) == *why);
  CHECK(error_of(ErrorKind::unsupported, [&] { format.decode({}, c.of.scheme, k, n); }) == *why);
}

TEST_CASE("no format takes what has no type, no scale dtype or no size", "[formats]") {
  constexpr std::int64_t kLarge = std::int64_t{1} << 40;
  for (const char* name : {"marlin", "gptq", "gptq-v2", "marlin-original"}) {
    const WeightFormat& format = format_named(name);
    CAPTURE(format.name);
    CHECK(format.refusal(scheme({4, 0}, kChannelwise), K{256}, N{256}));
    CHECK(format.refusal(scheme({4, 7}, kChannelwise), K{256}, N{256}));
    CHECK(format.refusal(scheme(kE2M1, kChannelwise), K{256}, N{256}));
    CHECK(format.refusal(scheme(kU4B8, kChannelwise, DType::F32), K{256}, N{256}));
    CHECK(format.refusal(scheme(kU4B8, 0), K{256}, N{256}));
    CHECK(format.refusal(scheme(kU4B8, -128), K{256}, N{256}));
    CHECK(format.refusal(scheme(kU4B8, kChannelwise), K{0}, N{256}));
    CHECK(format.refusal(scheme(kU4B8, kChannelwise), K{256}, N{0}));
    CHECK(format.refusal(scheme(kU4B8, kChannelwise), K{-256}, N{256}));
    CHECK(format.refusal(scheme(kU4B8, kChannelwise), K{kLarge}, N{256}));
    CHECK(format.refusal(scheme(kU4B8, kChannelwise), K{256}, N{kLarge}));
    CHECK_FALSE(format.refusal(scheme(kU4B8, kChannelwise), K{256}, N{256}));
  }
}

TEST_CASE("encode refuses codes, scales and shapes that contradict the scheme", "[formats]") {
  const Scheme g128 = scheme(kU4B8, 128);
  for (const char* name : {"marlin", "gptq", "gptq-v2", "marlin-original"}) {
    const WeightFormat& format = format_named(name);
    CAPTURE(format.name);
    const QuantizedMatrix good = random_matrix(g128, K{256}, N{256}, seed());
    CHECK_NOTHROW(format.encode(good));
    const auto refused = [&](auto change) {
      QuantizedMatrix bad = good;
      change(bad);
      return error_of(ErrorKind::bad_input, [&] { format.encode(bad); });
    };
    CHECK(mentions(refused([](auto& q) { q.codes(200, 100) = 16; }), "code 16 at (k, n) = (200, 100)"));
    CHECK(mentions(refused([](auto& q) { q.codes(200, 100) = 16; }), std::string{format.suffixes[0]}));
    CHECK(mentions(refused([](auto& q) { q.scales(1, 9) = 0.1f; }), "group 1, column 9"));
    CHECK(mentions(refused([](auto& q) { q.scales(1, 9) = std::numeric_limits<float>::infinity(); }), "inf"));
    CHECK(mentions(refused([](auto& q) { q.scales.conservativeResize(1, 256); }), "(1, 256)"));
    CHECK(mentions(refused([](auto& q) { q.scales.conservativeResize(2, 255); }), "(2, 255)"));
  }
}
