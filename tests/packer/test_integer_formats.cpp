// The rows of AWQ, compressed-tensors' integers and HQQ: what each gives back, refuses and reads in more than
// one spelling.

#include <cstring>

#include <fmt/format.h>

#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

constexpr std::nullopt_t kChannelwise = std::nullopt;

Scheme symmetric(ScalarType type, std::optional<int> group_size, DType scale_dtype = DType::F16) {
  return {type, group_size ? std::optional{GroupSize{*group_size}} : std::nullopt, scale_dtype};
}
Scheme asymmetric(ScalarType type, std::optional<int> group_size, DType scale_dtype = DType::F16) {
  Scheme scheme = symmetric(type, group_size, scale_dtype);
  scheme.zero_points = ZeroPoints::integer;
  return scheme;
}
Scheme scrambled(Scheme scheme) {
  scheme.act_order = true;
  return scheme;
}
Scheme one_scale(Scheme scheme) {
  scheme.columns_per_scale = Scheme::kAllColumns;
  return scheme;
}

struct Case {
  const char* format;
  Scheme scheme;
  int k, n;
};

const std::vector<Case> kCases = {
    {"awq", symmetric(kU4B8, 128), 256, 64},
    {"awq", asymmetric(kU4, 32), 288, 136},
    {"awq", asymmetric(kU4, kChannelwise, DType::BF16), 7, 8},
    {"awq", asymmetric(kU4, 1), 5, 8},
    {"awq-gemv", symmetric(kU4B8, 128), 256, 32},
    {"awq-gemv", asymmetric(kU4, 64), 320, 200},
    {"awq-gemv", asymmetric(kU4, 32, DType::BF16), 1024, 17},
    {"awq-gemv", asymmetric(kU4, 256), 2560, 8},
    {"awq-gemv", asymmetric(kU4, kChannelwise), 136, 8},
    {"awq-gemv-fast", symmetric(kU4B8, 128), 256, 32},
    {"awq-gemv-fast", asymmetric(kU4, 64), 320, 200},
    {"awq-gemv-fast", asymmetric(kU4, 32, DType::BF16), 1024, 12},
    {"awq-gemv-fast", asymmetric(kU4, kChannelwise), 192, 132},
    {"awq-marlin", symmetric(kU4B8, 128), 384, 64},
    {"awq-marlin", symmetric(kU4B8, kChannelwise), 128, 192},
    {"ct-pack-quantized", symmetric(kU4B8, 128), 256, 64},
    {"ct-pack-quantized", symmetric(kU4B8, 48, DType::F32), 1001, 131},
    {"ct-pack-quantized", asymmetric(kU4, 32, DType::BF16), 96, 257},
    {"ct-pack-quantized", symmetric(symmetric_integer(2), kChannelwise), 333, 7},
    {"ct-pack-quantized", symmetric(symmetric_integer(3), kChannelwise), 333, 7},
    {"ct-pack-quantized", asymmetric(unsigned_integer(3), 64), 1000, 300},
    {"ct-pack-quantized", asymmetric(unsigned_integer(5), 10), 130, 131},
    {"ct-pack-quantized", asymmetric(unsigned_integer(6), 100), 301, 260},
    {"ct-pack-quantized", asymmetric(unsigned_integer(7), 100), 301, 260},
    {"ct-pack-quantized", one_scale(symmetric(kU8B128, kChannelwise, DType::F32)), 101, 30},
    {"ct-pack-quantized", scrambled(symmetric(kU4B8, 32)), 128, 96},
    {"ct-pack-quantized", scrambled(asymmetric(kU8, 32)), 150, 5},
    {"ct-int-quantized", symmetric(kU8B128, kChannelwise, DType::BF16), 101, 131},
    {"ct-int-quantized", symmetric(kU8B128, 128, DType::F32), 256, 5},
    {"ct-int-quantized", asymmetric(kU8, 32), 100, 130},
    {"ct-int-quantized", one_scale(symmetric(kU8B128, kChannelwise)), 64, 260},
};

const WeightFormat& format_named(const char* name) {
  const WeightFormat* format = weight_format_named(name);
  REQUIRE(format);
  return *format;
}

/// What a configuration would say of such a checkpoint.
Claims claims_of(const WeightFormat& format, const Scheme& scheme) {
  Claims claims{.method = format.family == std::string_view{"compressed-tensors"} ? format.family : "awq"};
  if (format.name == std::string_view{"awq-marlin"}) claims.dialect = "marlin";
  if (format.name == std::string_view{"awq-gemv"}) claims.dialect = "gemv";
  claims.group_size = group_size_number(scheme);
  claims.bits = scheme.type.bits;
  return claims;
}

/// Scales of which gemv_fast can store any multiple up to 15.
void shrink_scales(QuantizedMatrix& q) {
  q.scales = q.scales.unaryExpr([&](float scale) {
    if (q.scheme.scale_dtype != DType::F16) return std::abs(scale) > 1e30f ? 1.0f : scale;
    return std::abs(scale) > 4000.0f ? 0.25f : scale;
  });
}

QuantizedMatrix matrix_for(const Case& c, unsigned with_seed) {
  QuantizedMatrix q = random_matrix(c.scheme, K{c.k}, N{c.n}, with_seed);
  if (c.format != std::string_view{"awq-gemv-fast"}) return q;
  shrink_scales(q);
  for (Eigen::Index i = 0; i < q.zero_points.size(); ++i)  // under a scale of 0 it reads the middle
    if (q.scales.data()[i] == 0) q.zero_points.data()[i] = 8;
  return q;
}

std::vector<PartSpec> specs_in(const std::vector<Part>& parts) {
  std::vector<PartSpec> specs;
  for (const Part& part : parts) specs.push_back({part.suffix, part.tensor.dtype, part.tensor.shape});
  return specs;
}

bool same_bytes(const std::vector<Part>& a, const std::vector<Part>& b) {
  return std::ranges::equal(a, b, [](const Part& x, const Part& y) {
    return x.suffix == y.suffix && x.tensor.data == y.tensor.data;
  });
}

/// Reads, in slabs of two units, and writes again into tensors spelled like the source.
std::vector<Part> rewritten(const StoredMatrix& stored, const std::vector<Part>& source) {
  std::vector<Part> again = allocate(specs_in(source));
  const PartBuffers buffers = buffers_of(again);
  for (std::int64_t first = 0; first < stored.geometry.n.value; first += kColumnUnit)
    stored.format->write(read_columns(stored, views_of(source),
                                      {first, std::min(kColumnUnit, stored.geometry.n.value - first)}),
                         stored.geometry, buffers);
  return again;
}

/// A tensor of `count` T, as a part.
template <class T>
Part part(std::string suffix, DType dtype, Shape shape, const std::vector<T>& values) {
  Part made{std::move(suffix), {dtype, std::move(shape), std::vector<std::byte>(values.size() * sizeof(T))}};
  std::memcpy(made.tensor.data.data(), values.data(), made.tensor.data.size());
  return made;
}

Part& find_part(std::vector<Part>& parts, std::string_view suffix) {
  for (Part& p : parts)
    if (p.suffix == suffix) return p;
  FAIL("no part " << suffix);
  return parts.front();
}

template <class T>
void set_element(std::vector<Part>& parts, std::string_view suffix, std::size_t i, T value) {
  std::vector<std::byte>& data = find_part(parts, suffix).tensor.data;
  REQUIRE((i + 1) * sizeof value <= data.size());
  std::memcpy(data.data() + i * sizeof value, &value, sizeof value);
}

}  // namespace

TEST_CASE("integer formats: decode inverts encode, slabs make the whole, the tensors tell the scheme",
          "[formats][integer]") {
  const Case c = GENERATE(from_range(kCases));
  const WeightFormat& format = format_named(c.format);
  const K k{c.k};
  const N n{c.n};
  CAPTURE(c.format, c.k, c.n, to_string(c.scheme));
  REQUIRE_FALSE(format.refusal(c.scheme, k, n));
  const QuantizedMatrix matrix = matrix_for(c, seed());
  const std::vector<Part> parts = format.encode(matrix);
  CHECK(specs_in(parts) == format.specs(c.scheme, k, n));
  for (std::size_t i = 0; i < format.suffixes.size(); ++i) CHECK(parts.at(i).suffix == format.suffixes[i]);
  CHECK(identical(format.decode(views_of(parts), c.scheme, k, n), matrix));

  const auto stored = recognize(views_of(parts), claims_of(format, c.scheme));
  REQUIRE(stored);
  CHECK(stored->format == &format);
  CHECK(stored->geometry.k == k);
  CHECK(stored->geometry.n == n);
  Scheme expected = c.scheme;
  if (expected.groups(k).value == 1) expected.group_size.reset();
  CHECK(stored->geometry.scheme == expected);
  CHECK(same_bytes(rewritten(*stored, parts), parts));

  std::vector<std::vector<std::byte>> moved;  // addresses of any alignment
  PartViews views = views_of(parts);
  for (auto& [suffix, view] : views) {
    moved.emplace_back(view.data.size() + 3);
    std::ranges::copy(view.data, moved.back().begin() + 3);
    view.data = std::span{moved.back()}.subspan(3);
  }
  CHECK(identical(format.decode(views, c.scheme, k, n), matrix));
}

TEST_CASE("integer formats: what cannot be written is refused with numbers", "[formats][integer]") {
  struct Refusal {
    Case of;
    const char* says;
  };
  const Refusal c = GENERATE(values<Refusal>({
      {{"awq", symmetric(kU8B128, 128), 128, 64}, "4-bit"},
      {{"awq", symmetric(kU4B8, 128), 128, 12}, "N = 12"},
      {{"awq", scrambled(symmetric(kU4B8, 32)), 128, 64}, "g_idx"},
      {{"awq", symmetric(kU4B8, 128, DType::F32), 128, 64}, "F32"},
      {{"awq", symmetric(kU4B8, 128), 64, 64}, "does not divide K = 64"},
      {{"awq-gemv", symmetric(kU4B8, 16), 128, 64}, "group_size 32, 64, 128"},
      {{"awq-gemv", symmetric(kU4B8, kChannelwise), 132, 64}, "K = 132"},
      {{"awq-gemv-fast", symmetric(kU4B8, 32), 96, 64}, "K = 96"},
      {{"awq-gemv-fast", symmetric(kU4B8, 128), 128, 6}, "N = 6"},
      {{"awq-marlin", asymmetric(kU4, 128), 128, 64}, "use format awq"},
      {{"awq-marlin", symmetric(kU4B8, 64), 128, 64}, "group_size -1 or 128"},
      {{"awq-marlin", symmetric(kU4B8, 128), 128, 32}, "N = 32"},
      {{"ct-pack-quantized", symmetric(kE4M3, kChannelwise), 128, 64}, "integers"},
      {{"ct-pack-quantized", one_scale(symmetric(kU4B8, 32)), 128, 64}, "one scale for the matrix"},
      {{"ct-pack-quantized", one_scale(asymmetric(kU4, kChannelwise)), 128, 64}, "zero points"},
      {{"ct-pack-quantized", symmetric(kU4B8, 0), 128, 64}, "group_size 0"},
      {{"ct-int-quantized", symmetric(kU4B8, kChannelwise), 128, 64}, "8-bit"},
      {{"ct-int-quantized", scrambled(symmetric(kU8B128, 32)), 128, 64}, "ct-pack-quantized"},
  }));
  CAPTURE(c.of.format, c.says);
  const auto why = format_named(c.of.format).refusal(c.of.scheme, K{c.of.k}, N{c.of.n});
  REQUIRE(why);
  CHECK(mentions(*why, c.says));
}

TEST_CASE("integer formats: codes, scales and zero points out of range are refused", "[formats][integer]") {
  for (const Case& c : kCases) {
    CAPTURE(c.format, to_string(c.scheme));
    const WeightFormat& format = format_named(c.format);
    const auto refused = [&](ErrorKind kind, auto change) {
      QuantizedMatrix bad = matrix_for(c, seed());
      change(bad);
      return error_of(kind, [&] { format.encode(bad); });
    };
    if (c.scheme.type.bits < 8)
      CHECK(mentions(refused(ErrorKind::bad_input,
                             [&](auto& q) {
                               q.codes(c.k - 1, c.n - 1) =
                                   static_cast<std::uint8_t>(c.scheme.type.max_code() + 1);
                             }),
                     "largest of"));
    CHECK(mentions(refused(ErrorKind::bad_input,
                           [&](auto& q) { q.scales.setConstant(std::numeric_limits<float>::infinity()); }),
                   "scale"));
    if (c.scheme.zero_points == ZeroPoints::integer) {
      const auto zero = static_cast<std::int16_t>(c.scheme.type.max_code() + 1);
      CHECK(mentions(refused(ErrorKind::unsupported, [&](auto& q) { q.zero_points(0, c.n - 1) = zero; }),
                     fmt::format("column {} is {}", c.n - 1, zero)));
      CHECK(mentions(refused(ErrorKind::unsupported, [&](auto& q) { q.zero_points(0, 0) = -1; }), "is -1"));
    }
  }
}

// Damage of every sort to every case: refused, or seen in what is read, or in what is written back.
TEST_CASE("integer formats: no corruption goes unseen", "[formats][integer][fuzz]") {
  int refused = 0, different = 0;
  for (unsigned trial = 0; trial < 600; ++trial) {
    std::mt19937 random{trial};
    const Case& c = kCases[trial % kCases.size()];
    CAPTURE(trial, c.format, to_string(c.scheme));
    const WeightFormat& format = format_named(c.format);
    const QuantizedMatrix before = matrix_for(c, trial);
    std::vector<Part> parts = format.encode(before);
    const Claims claims = claims_of(format, c.scheme);
    Tensor& victim = parts[random() % parts.size()].tensor;
    const std::vector<std::byte> data_before = victim.data;
    switch (random() % 7) {
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
        victim.shape.assign(random() % 4, std::int64_t{1} << (random() % 63));
        break;
      default:
        victim.data[random() % victim.data.size()] ^= static_cast<std::byte>(1 + random() % 255);
    }
    try {
      const auto stored = recognize(views_of(parts), claims);
      if (!stored) {
        ++refused;
        continue;
      }
      const QuantizedMatrix after = read_columns(*stored, views_of(parts), {0, stored->geometry.n.value});
      const bool written_back = same_bytes(rewritten(*stored, parts), parts);
      const bool respelled = victim.data == data_before;  // a scalar's shape is () or (1)
      CHECK((stored->format != &format || respelled || !identical(after, before)));
      CHECK(written_back);
      ++different;
    } catch (const Error&) {
      ++refused;
    }
    try {
      const QuantizedMatrix after = format.decode(views_of(parts), c.scheme, K{c.k}, N{c.n});
      CHECK_FALSE(identical(after, before));
    } catch (const Error&) {  // seen
    }
  }
  CHECK(refused > 200);
  CHECK(different > 60);
}

TEST_CASE("symmetric zero points of awq are implied by a file whose zeros are all 8",
          "[integer][recognize]") {
  const auto [name, k] =
      GENERATE(table<const char*, int>({{"awq", 256}, {"awq-gemv", 256}, {"awq-gemv-fast", 256}}));
  const WeightFormat& format = format_named(name);
  Case c{name, asymmetric(kU4, 128), k, 64};
  QuantizedMatrix q = matrix_for(c, seed());
  q.zero_points.setConstant(8);
  std::vector<Part> parts = format.encode(q);
  const auto stored = recognize(views_of(parts), claims_of(format, c.scheme));
  REQUIRE(stored);
  CHECK(stored->geometry.scheme == symmetric(kU4B8, 128));
  CHECK(same_bytes(rewritten(*stored, parts), parts));

  q.zero_points(1, 63) = 9;
  q.scales(1, 63) = 0.5f;
  parts = format.encode(q);
  CHECK(recognize(views_of(parts), claims_of(format, c.scheme))->geometry.scheme == c.scheme);
  CHECK(mentions(error_of(ErrorKind::bad_input,
                          [&] { format.decode(views_of(parts), symmetric(kU4B8, 128), K{k}, N{64}); }),
                 "group 1, column 63 has the zero point 9"));
}

TEST_CASE("gemm and gemv are told apart by shape, and by the configuration where both fit",
          "[integer][recognize]") {
  const auto recognized = [](const char* name, int k, int n, int group, Claims claims) {
    const Case c{name, asymmetric(kU4, group), k, n};
    const std::vector<Part> parts = format_named(name).encode(matrix_for(c, seed()));
    const auto stored = recognize(views_of(parts), claims);
    REQUIRE(stored);
    CHECK(same_bytes(rewritten(*stored, parts), parts));
    return std::string{stored->format->name} + " " + to_string(stored->geometry.scheme);
  };
  const std::string expected = " u4 group 64, F16 scales, zero points";
  CHECK(recognized("awq", 256, 256, 64, {}) == "awq" + expected);
  CHECK(recognized("awq-gemv", 256, 256, 64, {}) == "awq-gemv" + expected);
  CHECK(recognized("awq-gemv", 256, 256, 64, {.method = "awq", .dialect = "gemm"}) == "awq-gemv" + expected);
  // one group of 32 rows: 4 words of codes and 4 of zero points per column
  CHECK(recognized("awq-gemv", 32, 8, 32, {.method = "awq", .dialect = "gemv"}) ==
        "awq-gemv u4 per column, F16 scales, zero points");
  CHECK(recognized("awq", 8, 32, 1, {.method = "awq", .dialect = "gemm"}) ==
        "awq u4 group 1, F16 scales, zero points");
}

TEST_CASE("the group_size of padded formats comes from the data where nothing claims it",
          "[integer][recognize]") {
  const char* name = GENERATE("awq-gemv", "awq-gemv-fast");
  for (const auto& [k, group] : {std::pair{1024, 128}, {1024, 256}, {1024, 1024}, {768, 64}, {512, 32}}) {
    CAPTURE(name, k, group);
    Case c{name, asymmetric(kU4, group), k, 32};
    QuantizedMatrix q = matrix_for(c, seed());
    q.scales.setConstant(0.5f);
    const std::vector<Part> parts = format_named(name).encode(q);
    const auto stored = recognize(views_of(parts), {.method = "awq", .group_size = 7});
    REQUIRE(stored);
    CHECK(stored->geometry.scheme.rows_per_group(K{k}) == group);
  }
}

TEST_CASE("padding that is not empty is refused", "[integer]") {
  const auto [name, suffix, place] =
      GENERATE(table<const char*, const char*, std::size_t>({{"awq-gemv", "scales", 8 * 5 + 2},
                                                             {"awq-gemv-fast", "scales", 32 * 2 + 5},
                                                             {"awq-gemv-fast", "qzeros", 32 * 7 + 5}}));
  const Case c{name, asymmetric(kU4, 128), 256, 32};
  std::vector<Part> parts = format_named(name).encode(matrix_for(c, seed()));
  set_element<std::uint16_t>(parts, suffix, place, 0x8000);
  const auto stored = recognize(views_of(parts), {.method = "awq", .group_size = 128});
  REQUIRE(stored);
  const std::string text = error_of(ErrorKind::bad_input, [&] {
    read_columns(*stored, views_of(parts), {0, 32});
  });
  CHECK(mentions(text, std::string{suffix} + ": column 5"));
}

TEST_CASE("gemv_fast: zero points are integers again, or refused and counted", "[integer]") {
  const Case c{"awq-gemv-fast", asymmetric(kU4, 128), 256, 32};
  const WeightFormat& format = format_named(c.format);
  QuantizedMatrix q = matrix_for(c, seed());
  q.scales.setConstant(0.37109375f);
  q.scales(0, 3) = 0;
  q.scales(0, 4) = -0.0f;
  q.scales(0, 5) = -0.25f;
  q.scales(1, 6) = 6e-8f;  // the smallest half
  q.scales(1, 6) = load_float(reinterpret_cast<const std::byte*>("\1\0\0\0"), DType::F16);
  const std::vector<Part> parts = format.encode(q);
  QuantizedMatrix expected = q;
  expected.zero_points(0, 3) = expected.zero_points(0, 4) = 8;
  CHECK(identical(format.decode(views_of(parts), c.scheme, K{c.k}, N{c.n}), expected));
  CHECK(same_bytes(format.encode(expected), parts));

  std::vector<Part> bad = parts;
  set_element<std::uint16_t>(bad, "qzeros", 7, 0x3c00);       // z = -1 / 0.371
  set_element<std::uint16_t>(bad, "qzeros", 32 + 9, 0xbc01);  // between two integers
  set_element<std::uint16_t>(bad, "qzeros", 3, 0x0000);       // -(0 * z) is -0
  set_element<std::uint16_t>(bad, "qzeros", 11, 0x7e00);      // NaN
  set_element<std::uint16_t>(bad, "qzeros", 12, 0xfc00);      // infinity
  const std::string text = error_of(ErrorKind::unsupported,
                                    [&] { recognize(views_of(bad), {.method = "awq", .group_size = 128}); });
  CHECK(mentions(text, "5 of 64"));
  CHECK(mentions(text, "group 0, column 3"));

  q.scales(1, 8) = 60000.0f;
  q.zero_points(1, 8) = 2;
  CHECK(mentions(error_of(ErrorKind::unsupported, [&] { format.encode(q); }), "column 8"));
}

TEST_CASE("awq-marlin needs its configuration, without which the tensors are marlin's", "[integer]") {
  const Case c{"awq-marlin", symmetric(kU4B8, 128), 256, 64};
  const std::vector<Part> parts = format_named(c.format).encode(matrix_for(c, seed()));
  CHECK(recognize(views_of(parts))->format->name == std::string_view{"marlin"});
  CHECK(recognize(views_of(parts), {.method = "awq", .dialect = "marlin"})->format->name ==
        std::string_view{"awq-marlin"});
  CHECK(views_of(parts).at("qweight").shape == Shape{16, 128});
  const std::vector<Part> original = format_named("marlin").encode(matrix_for(c, seed()));
  CHECK(original[0].tensor.data == parts[0].tensor.data);
  CHECK(original[1].tensor.data == parts[1].tensor.data);
}

// --- compressed-tensors ---------------------------------------------------------------------------------

namespace {

constexpr std::int64_t legacy_words(std::int64_t count, int bits) {
  return (count + 32 / bits - 1) / (32 / bits);
}

/// The older packing, said once more: floor(32 / bits) fields in a word.
std::vector<Part> legacy_parts(const QuantizedMatrix& q) {
  const int bits = q.scheme.type.bits, fields = 32 / bits;
  const std::int64_t k = q.k().value, n = q.n().value, groups = q.scales.rows();
  const std::int64_t row = legacy_words(k, bits);
  std::vector<std::uint32_t> words(static_cast<std::size_t>(n * row)),
      zeros(static_cast<std::size_t>(legacy_words(n, bits) * groups));
  for (std::int64_t col = 0; col < n; ++col)
    for (std::int64_t i = 0; i < k; ++i)
      words[static_cast<std::size_t>(col * row + i / fields)] |= std::uint32_t{q.codes(i, col)}
                                                                 << (i % fields * bits);
  std::vector<Part> parts = weight_format_named("ct-pack-quantized")->encode(q);
  find_part(parts, "weight_packed") = part("weight_packed", DType::I32, {n, row}, words);
  if (q.scheme.zero_points != ZeroPoints::integer) return parts;
  for (std::int64_t col = 0; col < n; ++col)
    for (std::int64_t group = 0; group < groups; ++group)
      zeros[static_cast<std::size_t>(col / fields * groups + group)] |=
          static_cast<std::uint32_t>(q.zero_points(group, col)) << (col % fields * bits);
  find_part(parts, "weight_zero_point") =
      part("weight_zero_point", DType::I32, {legacy_words(n, bits), groups}, zeros);
  return parts;
}

}  // namespace

TEST_CASE("the older packing of 3, 5, 6 and 7 bits is seen by its width, read and written back",
          "[integer][ct]") {
  const int bits = GENERATE(3, 5, 6, 7);
  const bool zeros = GENERATE(false, true);
  const auto [k, n] = GENERATE(table<int, int>({{320, 300}, {321, 64}, {1000, 129}}));
  CAPTURE(bits, zeros, k, n);
  const Case c{"ct-pack-quantized",
               zeros ? asymmetric(unsigned_integer(bits), 64) : symmetric(symmetric_integer(bits), 64), k, n};
  const QuantizedMatrix q = matrix_for(c, seed());
  const std::vector<Part> parts = legacy_parts(q);
  const auto stored = recognize(views_of(parts), claims_of(format_named(c.format), c.scheme));
  REQUIRE(stored);
  CHECK(stored->geometry.scheme == c.scheme);
  CHECK(identical(read_columns(*stored, views_of(parts), {0, n}), q));
  CHECK(same_bytes(rewritten(*stored, parts), parts));

  std::vector<Part> bad = parts;
  set_element<std::uint32_t>(bad, "weight_packed", static_cast<std::size_t>(legacy_words(k, bits)) * 5,
                             0xffffffffu);
  CHECK(mentions(error_of(ErrorKind::bad_input,
                          [&] {
                            read_columns(*stored, views_of(bad), {0, n});
                          }),
                 "row 5 has bits"));
}

TEST_CASE("where both packings have the same width the unused bits tell", "[integer][ct]") {
  const auto [bits, k] = GENERATE(table<int, int>({{3, 11}, {3, 20}, {3, 150}, {5, 12}, {6, 15}, {7, 8}}));
  CAPTURE(bits, k);
  const Case c{"ct-pack-quantized", symmetric(symmetric_integer(bits), kChannelwise), k, 200};
  const WeightFormat& format = format_named(c.format);
  const QuantizedMatrix q = matrix_for(c, seed());
  const Claims claims = claims_of(format, c.scheme);
  const std::vector<Part> dense = format.encode(q), legacy = legacy_parts(q);
  CHECK_FALSE(same_bytes(dense, legacy));
  REQUIRE(specs_in(dense) == specs_in(legacy));
  for (const std::vector<Part>& parts : {dense, legacy}) {
    const auto stored = recognize(views_of(parts), claims);
    REQUIRE(stored);
    CHECK(identical(read_columns(*stored, views_of(parts), {0, 200}), q));
  }
}

TEST_CASE("the bits of packed codes are counted, or asked for", "[integer][ct]") {
  const auto bits_seen = [](const std::vector<Part>& parts, std::optional<int> claimed) {
    return recognize(views_of(parts), {.method = "compressed-tensors", .bits = claimed})
        ->geometry.scheme.type.bits;
  };
  const auto parts_of = [](int bits, int k) {
    return weight_format_named("ct-pack-quantized")
        ->encode(random_matrix(symmetric(symmetric_integer(bits), kChannelwise), K{k}, N{16}, seed()));
  };
  for (int bits = 2; bits <= 8; ++bits) {
    CHECK(bits_seen(parts_of(bits, 256), std::nullopt) == bits);
    CHECK(bits_seen(parts_of(bits, 256), 4) == bits);  // the tensors know better
    CHECK(bits_seen(parts_of(bits, 8), bits) == bits);
  }
  const QuantizedMatrix seven =
      random_matrix(symmetric(symmetric_integer(7), kChannelwise), K{256}, N{16}, seed());
  CHECK(bits_seen(legacy_parts(seven), 7) == 7);
  CHECK(bits_seen(legacy_parts(seven), std::nullopt) == 8);  // the same width
  CHECK(
      mentions(error_of(ErrorKind::bad_input, [&] { bits_seen(parts_of(4, 8), std::nullopt); }), "num_bits"));
}

TEST_CASE("ct-pack-quantized: other spellings are read and written back", "[integer][ct]") {
  const Case c{"ct-pack-quantized", asymmetric(kU4, 32), 128, 200};
  const QuantizedMatrix q = matrix_for(c, seed());
  std::vector<Part> parts = format_named(c.format).encode(q);
  const auto check = [&](const Scheme& scheme) {
    const auto stored = recognize(views_of(parts), {.method = "compressed-tensors"});
    REQUIRE(stored);
    CHECK(stored->geometry.scheme == scheme);
    return rewritten(*stored, parts);
  };
  SECTION("weight_shape of 32 bits") {
    find_part(parts, "weight_shape") = part<std::int32_t>("weight_shape", DType::I32, {2}, {200, 128});
    CHECK(same_bytes(check(c.scheme), parts));
  }
  SECTION("all zero points in the middle are stored all the same") {
    const Case middle{"ct-pack-quantized", asymmetric(kU4, 32), 128, 200};
    QuantizedMatrix eights = q;
    eights.zero_points.setConstant(8);
    parts = format_named(c.format).encode(eights);
    CHECK(same_bytes(check(middle.scheme), parts));
  }
  SECTION("g_idx of runs, of 64 bits") {
    std::vector<std::int64_t> groups(128);
    for (std::size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<std::int64_t>(i) / 32;
    parts.push_back(part("weight_g_idx", DType::I64, {128}, groups));
    CHECK(same_bytes(check(c.scheme), parts));
    std::swap(groups[0], groups[127]);
    parts.back() = part("weight_g_idx", DType::I64, {128}, groups);
    CHECK(same_bytes(check(scrambled(c.scheme)), parts));
    groups[7] = 4;
    parts.back() = part("weight_g_idx", DType::I64, {128}, groups);
    CHECK(mentions(error_of(ErrorKind::bad_input, [&] { recognize(views_of(parts)); }), "row 7"));
  }
  SECTION("g_idx that nobody set") {
    parts.push_back(part("weight_g_idx", DType::I32, {128}, std::vector<std::int32_t>(128, -1)));
    const std::vector<Part> again = check(c.scheme);
    parts.pop_back();
    CHECK(same_bytes({again.begin(), again.end() - 1}, parts));
  }
  SECTION("a scale without dimensions") {
    parts = format_named(c.format).encode(
        random_matrix(one_scale(symmetric(kU4B8, kChannelwise)), K{128}, N{200}, seed()));
    find_part(parts, "weight_scale").tensor.shape.clear();
    CHECK(same_bytes(check(one_scale(symmetric(kU4B8, kChannelwise))), parts));
  }
  SECTION("contradictions") {
    const auto refused = [&] { return error_of(ErrorKind::bad_input, [&] { recognize(views_of(parts)); }); };
    SECTION("N") {
      set_element<std::int64_t>(parts, "weight_shape", 0, 201);
      CHECK(mentions(refused(), "weight_shape says (201, 128)"));
    }
    SECTION("K") {
      set_element<std::int64_t>(parts, "weight_shape", 1, 400);
      CHECK(mentions(refused(), "num"));
    }
    SECTION("scales of another N") {
      find_part(parts, "weight_scale").tensor.shape = {100, 8};
      CHECK(mentions(refused(), "weight_scale has shape (100, 8)"));
    }
    SECTION("bits after the last code") {
      parts =
          format_named(c.format).encode(random_matrix(symmetric(kU4B8, kChannelwise), K{125}, N{8}, seed()));
      set_element<std::uint32_t>(parts, "weight_packed", 16 * 3 - 1, 0x01000000u << 4);
      const auto stored = recognize(views_of(parts));
      REQUIRE(stored);
      CHECK(mentions(error_of(ErrorKind::bad_input,
                              [&] {
                                read_columns(*stored, views_of(parts), {0, 8});
                              }),
                     "row 2 has bits"));
    }
  }
}

TEST_CASE("ct-int-quantized holds signed bytes", "[integer][ct]") {
  const std::vector<Part> parts{part<std::uint8_t>("weight", DType::I8, {1, 4}, {0x80, 0xff, 0x00, 0x7f}),
                                part<std::uint16_t>("weight_scale", DType::F16, {1, 1}, {0x3800})};
  const auto stored = recognize(views_of(parts));
  REQUIRE(stored);
  CHECK(stored->format->name == std::string_view{"ct-int-quantized"});
  const MatrixF weight = dequantize(read_columns(*stored, views_of(parts), {0, 1}));
  CHECK(weight == (MatrixF(4, 1) << -64.0f, -0.5f, 0.0f, 63.5f).finished());

  std::vector<Part> fp8 = parts;
  fp8[0].tensor.dtype = DType::F8_E4M3;
  const auto other = recognize(views_of(fp8));
  CHECK((!other || other->format->name != std::string_view{"ct-int-quantized"}));
}

// --- HQQ ------------------------------------------------------------------------------------------------

namespace {

/// The library's packing, from the matrix U of groups: (rows, group_size).
std::vector<Part> hqq_parts(const QuantizedMatrix& q, int bits) {
  const std::int64_t k = q.k().value, n = q.n().value, groups = q.scales.rows(), size = k / groups;
  const std::int64_t rows = n * groups;
  const auto u = [&](std::int64_t row, std::int64_t i) -> std::uint32_t {
    return row < rows ? q.codes(row % groups * size + i, row / groups) : 0;
  };
  const std::int64_t blocks = bits == 3 ? 10 : bits > 4 ? 1 : 8 / bits;
  const std::int64_t stored = (rows + blocks - 1) / blocks;
  std::vector<Part> parts;
  if (bits == 3) {
    std::vector<std::uint32_t> words(static_cast<std::size_t>(stored * size));
    for (std::int64_t r = 0; r < stored; ++r)
      for (std::int64_t i = 0; i < size; ++i)
        for (std::int64_t b = 0; b < 10; ++b)
          words[static_cast<std::size_t>(r * size + i)] |= u(r + b * stored, i) << (3 * (9 - b));
    parts.push_back(part("W_q", DType::I32, {stored, size}, words));
  } else {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(stored * size));
    for (std::int64_t r = 0; r < stored; ++r)
      for (std::int64_t i = 0; i < size; ++i)
        for (std::int64_t b = 0; b < blocks; ++b)
          bytes[static_cast<std::size_t>(r * size + i)] |=
              static_cast<std::uint8_t>(u(r + b * stored, i) << (8 / blocks * (blocks - 1 - b)));
    parts.push_back(part("W_q", DType::U8, {stored, size}, bytes));
  }
  const auto floats = [&](const char* suffix, const MatrixF& matrix) {
    std::vector<float> values(matrix.data(), matrix.data() + matrix.size());
    parts.push_back(part(suffix, DType::F32, {rows, 1}, values));
  };
  floats("scale", q.scales);
  floats("zero",
         q.scheme.zero_points == ZeroPoints::integer ? MatrixF{q.zero_points.cast<float>()} : q.float_zeros);
  parts.push_back(part<std::int64_t>("shape", DType::I64, {2}, {n, k}));
  parts.push_back(part<std::int32_t>("nbits", DType::I32, {}, {bits}));
  parts.push_back(part<std::int32_t>("axis", DType::I32, {}, {1}));
  parts.push_back(part<std::int32_t>("group_size", DType::I32, {}, {static_cast<std::int32_t>(size)}));
  parts.push_back(part<std::uint8_t>("packing", DType::U8, {4}, {'4', 'b', 'i', 't'}));
  return parts;
}

QuantizedMatrix hqq_matrix(int bits, int k, int n, std::optional<int> group_size, bool float_zeros) {
  Scheme scheme = asymmetric(unsigned_integer(std::max(bits, 2)), group_size, DType::F32);
  if (float_zeros) scheme.zero_points = ZeroPoints::floating;
  QuantizedMatrix q = random_matrix(scheme, K{k}, N{n}, seed());
  if (bits == 1) q.codes = q.codes.unaryExpr([](std::uint8_t c) { return std::uint8_t(c & 1); });
  return q;
}

}  // namespace

TEST_CASE("hqq: every packing, whole and in slabs", "[integer][hqq]") {
  const int bits = GENERATE(1, 2, 3, 4, 5, 6, 8);
  const bool float_zeros = GENERATE(false, true);
  const auto [k, n, group] =
      GENERATE(table<int, int, std::optional<int>>({{64, 256, 32}, {96, 136, kChannelwise}, {64, 8, 8}}));
  CAPTURE(bits, float_zeros, k, n);
  const QuantizedMatrix q = hqq_matrix(bits, k, n, group, float_zeros);
  std::vector<Part> parts = hqq_parts(q, bits);
  if (GENERATE(false, true)) {  // without what the shapes tell as well
    std::erase_if(parts, [](const Part& p) {
      return p.suffix == "group_size" || p.suffix == "axis" || p.suffix == "packing";
    });
    parts[0].tensor.dtype = DType::BF16;  // view_as_float
  }
  const auto stored = recognize(views_of(parts), {.method = "hqq"});
  REQUIRE(stored);
  CHECK(stored->format->name == std::string_view{"hqq"});
  CHECK(stored->geometry.scheme == q.scheme);
  CHECK(identical(read_columns(*stored, views_of(parts), {0, n}), q));
  if (n > 128) {
    const QuantizedMatrix slab = read_columns(*stored, views_of(parts), {128, n - 128});
    CHECK(slab.codes == q.codes.rightCols(n - 128));
    CHECK(slab.scales == q.scales.rightCols(n - 128));
  }
}

TEST_CASE("hqq: the example of two rows", "[integer][hqq]") {
  std::vector<Part> parts{
      part<std::uint8_t>("W_q", DType::U8, {2, 4}, {0x08, 0x19, 0x2a, 0x3b, 0x4c, 0x5d, 0x6e, 0x7f}),
      part<float>("scale", DType::F32, {4, 1}, {0.5f, 0.5f, 0.5f, 0.5f}),
      part<float>("zero", DType::F32, {4, 1}, {1.5f, 1.5f, 1.5f, 1.5f}),
      part<std::int32_t>("shape", DType::I32, {2}, {2, 8})};
  const auto stored = recognize(views_of(parts));
  REQUIRE(stored);
  const MatrixF weight = dequantize(read_columns(*stored, views_of(parts), {0, 2}));
  CHECK(weight.col(0) ==
        (MatrixF(8, 1) << -0.75f, -0.25f, 0.25f, 0.75f, 1.25f, 1.75f, 2.25f, 2.75f).finished());
}

TEST_CASE("hqq: what is not read says why", "[integer][hqq]") {
  std::vector<Part> parts = hqq_parts(hqq_matrix(4, 64, 8, 32, true), 4);
  const auto refused = [&](ErrorKind kind) {
    return error_of(kind, [&] { recognize(views_of(parts), {.method = "hqq"}); });
  };
  SECTION("axis 0") {
    find_part(parts, "axis") = part<std::int32_t>("axis", DType::I32, {}, {0});
    CHECK(mentions(refused(ErrorKind::unsupported), "axis 0"));
  }
  SECTION("quantized scales") {
    std::erase_if(parts, [](const Part& p) { return p.suffix == "scale"; });
    CHECK(mentions(refused(ErrorKind::unsupported), "quantized themselves"));
  }
  SECTION("no shape") {
    std::erase_if(parts, [](const Part& p) { return p.suffix == "shape"; });
    CHECK(mentions(refused(ErrorKind::unsupported), "shape"));
  }
  SECTION("groups across outputs") {
    find_part(parts, "group_size") = part<std::int32_t>("group_size", DType::I32, {}, {48});
    CHECK(mentions(refused(ErrorKind::unsupported), "48"));
  }
  SECTION("a size of its own") {
    parts[0].tensor.data.resize(200);
    CHECK(mentions(refused(ErrorKind::bad_input), "W_q has 200 bytes"));
  }
  SECTION("codes above their bits") {
    parts = hqq_parts(hqq_matrix(5, 64, 8, 32, true), 5);
    parts[0].tensor.data[64 * 2 + 3] = std::byte{32};
    const auto stored = recognize(views_of(parts));
    REQUIRE(stored);
    CHECK(mentions(error_of(ErrorKind::bad_input,
                            [&] {
                              read_columns(*stored, views_of(parts), {0, 8});
                            }),
                   "code 32 at (k, n) = (3, 2)"));
  }
  SECTION("writing") {
    const QuantizedMatrix q = hqq_matrix(4, 64, 8, 32, true);
    CHECK(mentions(error_of(ErrorKind::unsupported, [&] { format_named("hqq").encode(q); }), "hqq"));
  }
}

TEST_CASE("hqq: no damage crashes", "[integer][hqq][fuzz]") {
  for (unsigned trial = 0; trial < 400; ++trial) {
    std::mt19937 random{trial};
    constexpr int kBits[] = {1, 2, 3, 4, 5, 8};
    const int bits = kBits[trial % 6];
    std::vector<Part> parts = hqq_parts(hqq_matrix(bits, 64, 16, 32, trial % 2 == 0), bits);
    Tensor& victim = parts[random() % parts.size()].tensor;
    switch (random() % 3) {
      case 0:
        victim.data.resize(random() % (2 * victim.data.size()));
        break;
      case 1:
        victim.dtype = static_cast<DType>(random() % 22);
        break;
      default:
        victim.data[random() % victim.data.size()] ^= static_cast<std::byte>(1 + random() % 255);
    }
    try {
      if (const auto stored = recognize(views_of(parts)))
        read_columns(*stored, views_of(parts), {0, stored->geometry.n.value});
    } catch (const Error&) {  // either answer is fine
    }
  }
}
