// The Marlin rows beyond plain symmetric integers: what they give back, refuse, promise and recognize.

#include <algorithm>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "packer/block_scales.hpp"
#include "packer/sparse24.hpp"
#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"
#include "tests/support/files.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

struct Case {
  const char* format;
  Scheme scheme;
  int k, n;
};

Scheme plain(ScalarType type, int group_size, DType scale_dtype = DType::F16) {
  return {type, group_size_from_number(group_size), scale_dtype};
}
Scheme zeros(ScalarType type, int group_size, DType scale_dtype = DType::F16) {
  Scheme scheme = plain(type, group_size, scale_dtype);
  scheme.zero_points = ZeroPoints::integer;
  return scheme;
}
Scheme float_zeros(int group_size, DType scale_dtype = DType::F16) {
  Scheme scheme = plain(kU4, group_size, scale_dtype);
  scheme.zero_points = ZeroPoints::floating;
  return scheme;
}
Scheme scrambled(Scheme scheme) {
  scheme.act_order = true;
  return scheme;
}
Scheme for_activations(Scheme scheme, DType activations) {
  scheme.activations = activations;
  return scheme;
}
Scheme nvfp4(GlobalScale global = GlobalScale::multiplies) {
  Scheme scheme = plain(kE2M1, 16, DType::F8_E4M3);
  scheme.global_scale = global;
  return scheme;
}
Scheme mx(ScalarType type) {
  return plain(type, 32, DType::F8_E8M0);
}

const std::vector<Case> kAccepted = {
    {"marlin", zeros(kU4, 128), 256, 64},
    {"marlin", zeros(kU4, 32, DType::BF16), 64, 384},
    {"marlin", zeros(kU4, -1), 128, 192},
    {"marlin", zeros(kU8, 64), 192, 128},
    {"marlin", zeros(kU8, -1, DType::BF16), 128, 64},
    {"marlin", float_zeros(64), 256, 64},
    {"marlin", float_zeros(32, DType::BF16), 64, 384},
    {"marlin", float_zeros(128), 384, 256},
    {"marlin", float_zeros(-1), 128, 192},
    {"marlin", scrambled(float_zeros(64)), 384, 256},
    {"marlin", scrambled(plain(kU4B8, 32)), 384, 192},
    {"marlin", scrambled(zeros(kU4, 64)), 384, 256},
    {"marlin", scrambled(plain(kU8B128, 128, DType::BF16)), 512, 64},
    {"marlin", scrambled(zeros(kU8, 32)), 64, 128},
    {"marlin", plain(kE4M3, -1), 128, 64},
    {"marlin", plain(kE4M3, -1, DType::BF16), 64, 384},
    {"marlin", plain(kE4M3, 128), 512, 192},
    {"marlin", plain(kE4M3, 128, DType::BF16), 384, 256},
    {"marlin", nvfp4(), 64, 128},
    {"marlin", nvfp4(), 256, 192},
    {"marlin", for_activations(nvfp4(), DType::BF16), 128, 384},
    {"marlin", mx(kE2M1), 256, 64},
    {"marlin", mx(kE2M1), 64, 256},
    {"marlin", mx(kE4M3), 128, 192},
    {"marlin-a8", plain(kU4B8, 128), 256, 64},
    {"marlin-a8", plain(kU4B8, 32, DType::BF16), 64, 384},
    {"marlin-a8", plain(kU4B8, -1), 128, 192},
    {"marlin-a8", zeros(kU4, 64), 192, 128},
    {"marlin-a8", zeros(kU4, -1, DType::BF16), 384, 256},
    {"marlin-a8", for_activations(plain(kU4B8, -1), DType::I8), 128, 192},
    {"marlin-a8", for_activations(zeros(kU4, -1), DType::I8), 128, 384},
    {"marlin-a8", plain(kU8B128, -1), 128, 64},
    {"marlin-a8", plain(kU8B128, -1, DType::BF16), 384, 256},
    {"marlin-a8", mx(kE2M1), 64, 384},
    {"marlin-24", plain(kU4B8, 128), 256, 128},
    {"marlin-24", plain(kU4B8, -1), 384, 384},
    {"marlin-24", plain(kU8B128, 128), 640, 256},
    {"marlin-24", plain(kU8B128, -1), 128, 128},
};

/// Keeps two codes of every four, or fewer.
void make_24(QuantizedMatrix& q, unsigned seed) {
  std::mt19937 random{seed};
  const auto zero = static_cast<std::uint8_t>(q.scheme.type.bias);
  for (Eigen::Index i = 0; i < q.codes.size(); i += 4) {
    const unsigned first = random() % 4, second = random() % 4;
    for (unsigned j = 0; j < 4; ++j)
      if (j != first && j != second) q.codes.data()[i + j] = zero;
  }
}

/// As random_matrix, with scales that the row can hold.
QuantizedMatrix matrix_for(const Case& c, unsigned seed) {
  QuantizedMatrix q = random_matrix(c.scheme, K{c.k}, N{c.n}, seed);
  std::mt19937 random{seed + 7};
  const bool fp8_scales = c.scheme.scale_dtype == DType::F8_E4M3;
  for (float& scale : q.scales.reshaped()) {
    if (fp8_scales)
      scale = std::abs(scale) < 0x1p-6f && c.scheme.activations == DType::BF16 ? 0.0f : std::abs(scale);
    if (c.scheme.type == kE4M3 && c.scheme.scale_dtype == DType::F16 && std::abs(scale) >= 0x1p8f)
      scale /= 0x1p8f;
    if (c.scheme.type == kE4M3 && c.scheme.scale_dtype == DType::BF16 && std::abs(scale) >= 0x1p8f)
      scale = static_cast<float>(random() % 256) * 0x1p-3f;
    if (c.format == std::string_view{"marlin-a8"}) {
      const float limit = c.scheme.scale_dtype == DType::F8_E8M0 ? 0x1p121f
                          : c.scheme.scale_dtype == DType::F16   ? 0x1p6f
                                                                 : 0x1p118f;
      if (std::abs(scale) > limit) scale = c.scheme.scale_dtype == DType::F8_E8M0 ? 0x1p-3f : -0x1.8p-3f;
    }
  }
  if (weight_format_named(c.format)->only_24) make_24(q, seed + 8);
  return q;
}

Claims claims_of(const Case& c) {
  Claims claims;
  if (c.format != std::string_view{"marlin-24"}) {
    claims.method = "marlin-pack";
    claims.dialect = c.format;
    claims.type = c.scheme.type;
    claims.activations = c.scheme.activations;
    claims.group_size = group_size_number(c.scheme);
    claims.symmetric = c.scheme.zero_points == ZeroPoints::implied;
    claims.act_order = c.scheme.act_order;
    claims.bits = c.scheme.type.bits;
  }
  return claims;
}

std::string label(const Case& c) {
  return fmt::format("{} {} {}x{}", c.format, to_string(c.scheme), c.k, c.n);
}

std::string encode_error(const char* format, const QuantizedMatrix& q, ErrorKind kind) {
  return error_of(kind, [&] { weight_format_named(format)->encode(q); });
}

}  // namespace

TEST_CASE("Marlin rows give back what they were given, and say what it is", "[marlin]") {
  const Case c = GENERATE(from_range(kAccepted));
  INFO(label(c));
  const WeightFormat& format = *weight_format_named(c.format);
  const K k{c.k};
  const N n{c.n};
  REQUIRE(format.refusal(c.scheme, k, n) == std::nullopt);
  const QuantizedMatrix matrix = matrix_for(c, seed());
  const std::vector<Part> parts = format.encode(matrix);
  const PartViews views = views_of(parts);
  CHECK(identical(format.decode(views, c.scheme, k, n), matrix));

  const auto stored = recognize(views, claims_of(c));
  REQUIRE(stored);
  CHECK(stored->format == &format);
  CHECK(stored->geometry.k == k);
  CHECK(stored->geometry.n == n);
  Scheme expected = c.scheme;
  if (expected.groups(k).value == 1) expected.group_size.reset();
  CHECK(to_string(stored->geometry.scheme) == to_string(expected));
  CHECK(stored->geometry.scheme == expected);

  SECTION("slab by slab") {
    std::vector<Part> slabs = allocate(format.specs(c.scheme, k, n));
    const PartBuffers buffers = buffers_of(slabs);
    for (std::int64_t first = c.n / kColumnUnit * kColumnUnit; first >= 0; first -= kColumnUnit) {
      const std::int64_t count = std::min(kColumnUnit, c.n - first);
      if (count == 0) continue;
      const QuantizedMatrix some = read_columns(*stored, views, {first, count});
      CHECK(some.codes == matrix.codes.middleCols(first, count));
      format.write(some, {c.scheme, k, n}, buffers);
    }
    for (std::size_t i = 0; i < parts.size(); ++i) {
      INFO(parts[i].suffix);
      CHECK(slabs[i].tensor.data == parts[i].tensor.data);
    }
  }
  SECTION("at addresses of any alignment") {
    std::vector<std::vector<std::byte>> moved;
    PartViews unaligned = views;
    for (const Part& part : parts) {
      moved.emplace_back(part.tensor.data.size() + 1);
      std::ranges::copy(part.tensor.data, moved.back().begin() + 1);
      unaligned[part.suffix].data = std::span{moved.back()}.subspan(1);
    }
    CHECK(identical(format.decode(unaligned, c.scheme, k, n), matrix));
  }
  SECTION("every tensor is drawn in FORMAT.md") {
    const std::string text = read_file(std::filesystem::path{MPK_SOURCE_DIR} / "packer" / "FORMAT.md");
    for (const Part& part : parts) CHECK(mentions(text, fmt::format("| `P.{}` |", part.suffix)));
  }
  SECTION("damage never passes for the same, nor crashes") {
    std::mt19937 random{seed()};
    for (int trial = 0; trial < 30; ++trial) {
      std::vector<Part> damaged = parts;
      std::vector<std::byte>& data = damaged[random() % damaged.size()].tensor.data;
      data[random() % data.size()] ^= static_cast<std::byte>(1 + random() % 255);
      try {
        const bool same = identical(format.decode(views_of(damaged), c.scheme, k, n), matrix);
        CHECK((!same || format.only_24));  // there another choice of zeros to keep is no damage
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::bad_input);
      }
      data.resize(random() % data.size());
      error_of(ErrorKind::bad_input, [&] { format.decode(views_of(damaged), c.scheme, k, n); });
    }
  }
}

TEST_CASE("what the Marlin rows cannot hold is refused with numbers", "[marlin]") {
  struct Refusal {
    Case of;
    std::vector<const char*> says;
  };
  Scheme block = plain(kE4M3, 128);
  block.columns_per_scale = 128;
  Scheme eight_bits = zeros(kU8, 64);
  eight_bits.zero_points = ZeroPoints::floating;
  Scheme no_global = nvfp4();
  no_global.global_scale = GlobalScale::none;
  const std::vector<Refusal> refused = {
      {{"marlin", zeros(kU4, 16), 128, 64}, {"group_size", "16"}},
      {{"marlin", float_zeros(16), 128, 64}, {"group_size", "16"}},
      {{"marlin", eight_bits, 128, 64}, {"floating-point", "u8"}},
      {{"marlin", float_zeros(64, DType::F32), 128, 64}, {"F32"}},
      {{"marlin-a8", float_zeros(64), 128, 64}, {"floating-point"}},
      {{"marlin", plain(kE4M3, 64), 128, 64}, {"e4m3", "64"}},
      {{"marlin", block, 128, 128}, {"128"}},
      {{"marlin", plain(kE4M3, -1, DType::F32), 128, 128}, {"F32", "F16"}},
      {{"marlin", scrambled(plain(kE4M3, 128)), 256, 128}, {"act_order"}},
      {{"marlin", no_global, 128, 128}, {"global scale"}},
      {{"marlin", plain(kE2M1, -1), 128, 128}, {"e2m1", "F16"}},
      {{"marlin", for_activations(nvfp4(), DType::I8), 128, 128}, {"F16", "I8"}},
      {{"marlin", for_activations(mx(kE2M1), DType::F16), 128, 128}, {"BF16", "F16"}},
      {{"marlin", for_activations(plain(kU4B8, -1), DType::F8_E4M3), 128, 128}, {"F8_E4M3"}},
      {{"marlin", nvfp4(), 64, 64}, {"K = 64", "N = 64"}},
      {{"marlin", mx(kE2M1), 96, 128}, {"K = 96"}},
      {{"marlin-a8", scrambled(plain(kU4B8, 128)), 256, 128}, {"act_order"}},
      {{"marlin-a8", zeros(kU8, 128), 256, 128}, {"u8"}},
      {{"marlin-a8", plain(kU8B128, 128), 256, 128}, {"I8", "128"}},
      {{"marlin-a8", for_activations(plain(kU4B8, 128), DType::I8), 256, 128}, {"128", "F8_E4M3"}},
      {{"marlin-a8", for_activations(plain(kU8B128, -1), DType::F8_E4M3), 256, 128}, {"u8b128"}},
      {{"marlin-a8", for_activations(plain(kU4B8, -1), DType::BF16), 256, 128}, {"BF16"}},
      {{"marlin-a8", nvfp4(), 256, 128}, {"e2m1"}},
      {{"marlin-a8", plain(kU4B8, 128), 128, 32}, {"N = 32"}},
      {{"marlin-24", plain(kU4B8, 64), 256, 128}, {"64"}},
      {{"marlin-24", plain(kU4B8, 128, DType::BF16), 256, 128}, {"BF16"}},
      {{"marlin-24", plain(kU4B8, -1), 64, 128}, {"K = 64"}},
      {{"marlin-24", plain(kU4B8, -1), 128, 64}, {"N = 64"}},
      {{"marlin-24", zeros(kU4, -1), 128, 128}, {"u4"}},
      {{"marlin-24", scrambled(plain(kU4B8, 128)), 256, 128}, {"act_order"}},
  };
  for (const Refusal& c : refused) {
    INFO(label(c.of));
    const auto why = weight_format_named(c.of.format)->refusal(c.of.scheme, K{c.of.k}, N{c.of.n});
    REQUIRE(why);
    for (const char* part : c.says) {
      INFO(*why << " / " << part);
      CHECK(mentions(*why, part));
    }
  }
}

TEST_CASE("data that a Marlin row cannot hold exactly are refused, not rounded", "[marlin]") {
  const auto matrix = [](const char* format, const Scheme& scheme) {
    return matrix_for({format, scheme, 256, 128}, seed());
  };
  {
    QuantizedMatrix q = matrix("marlin", plain(kE4M3, 128));
    q.scales(1, 100) = 256;
    CHECK(mentions(encode_error("marlin", q, ErrorKind::bad_input), "group 1, column 100 is 256"));
    q.scales(1, 100) = 255.875f;
    weight_format_named("marlin")->encode(q);
    q.codes(200, 77) = 0xff;
    CHECK(mentions(encode_error("marlin", q, ErrorKind::unsupported), "(200, 77)"));
  }
  {
    QuantizedMatrix q = matrix("marlin", plain(kE4M3, -1, DType::BF16));
    q.scales(0, 100) = 256;
    CHECK(mentions(encode_error("marlin", q, ErrorKind::bad_input), "column 100 is 256"));
  }
  {
    QuantizedMatrix q = matrix("marlin-a8", plain(kU4B8, 128));
    q.scales(1, 100) = -128;
    CHECK(mentions(encode_error("marlin-a8", q, ErrorKind::bad_input), "column 100 is -128"));
  }
  {
    QuantizedMatrix q = matrix("marlin-a8", mx(kE2M1));
    q.scales(3, 9) = 0x1p122f;
    CHECK(mentions(encode_error("marlin-a8", q, ErrorKind::bad_input), "group 3, column 9"));
  }
  {
    QuantizedMatrix q = matrix("marlin", nvfp4());
    for (const float negative : {-1.0f, -0.0f}) {
      q.scales(3, 9) = negative;
      CHECK(mentions(encode_error("marlin", q, ErrorKind::unsupported), "group 3, column 9"));
    }
    q.scales(3, 9) = 1;
    for (const float global : {0.0f, -1.0f, std::numeric_limits<float>::infinity(), 0x1p121f}) {
      q.global_scale = global;
      CHECK(mentions(encode_error("marlin", q, ErrorKind::unsupported), "global scale"));
    }
  }
  {
    QuantizedMatrix q = matrix("marlin", for_activations(nvfp4(), DType::BF16));
    q.scales(3, 9) = 0x1p-7f;
    CHECK(mentions(encode_error("marlin", q, ErrorKind::unsupported), "group 3, column 9"));
  }
  {
    QuantizedMatrix q = matrix("marlin", float_zeros(128));
    for (const float zero : {0x1.001p3f, std::numeric_limits<float>::quiet_NaN(), 65536.0f}) {
      q.float_zeros(1, 77) = zero;
      CHECK(mentions(encode_error("marlin", q, ErrorKind::bad_input), "group 1, column 77"));
    }
  }
  {
    QuantizedMatrix q = matrix("marlin", zeros(kU4, 128));
    for (const int zero : {-1, 16}) {
      q.zero_points(1, 77) = static_cast<std::int16_t>(zero);
      CHECK(mentions(encode_error("marlin", q, ErrorKind::unsupported), "group 1, column 77"));
      CHECK(mentions(encode_error("marlin-a8", q, ErrorKind::unsupported), "group 1, column 77"));
    }
  }
}

TEST_CASE("act_order is stored as sorted groups and their stable order", "[marlin]") {
  QuantizedMatrix q = matrix_for({"marlin", scrambled(plain(kU4B8, 32)), 128, 64}, seed());
  std::vector<Part> parts = weight_format_named("marlin")->encode(q);
  const auto words = [&](std::size_t i) {
    std::vector<std::int32_t> values(128);
    std::memcpy(values.data(), parts[i].tensor.data.data(), 512);
    return values;
  };
  REQUIRE(parts[2].suffix == "g_idx");
  REQUIRE(parts[3].suffix == "perm");
  const auto groups = words(2), perm = words(3);
  for (std::size_t i = 0; i < 128; ++i) {
    CHECK(q.g_idx[static_cast<std::size_t>(perm[i])] == groups[i]);
    if (i == 0) continue;
    CHECK(groups[i - 1] <= groups[i]);
    if (groups[i - 1] == groups[i]) CHECK(perm[i - 1] < perm[i]);
  }
  QuantizedMatrix moved = q;  // the same tensor as a matrix whose rows stand so already
  for (std::size_t i = 0; i < 128; ++i) moved.codes.row(static_cast<Eigen::Index>(i)) = q.codes.row(perm[i]);
  moved.g_idx.clear();
  moved.scheme.act_order = false;
  CHECK(weight_format_named("marlin")->encode(moved)[0].tensor.data == parts[0].tensor.data);

  const auto refused = [&](std::size_t part, std::size_t at, std::int32_t value) {
    std::vector<Part> bad = parts;
    std::memcpy(bad[part].tensor.data.data() + 4 * at, &value, 4);
    return error_of(ErrorKind::bad_input,
                    [&] { weight_format_named("marlin")->decode(views_of(bad), q.scheme, K{128}, N{64}); });
  };
  CHECK(mentions(refused(3, 5, perm[6]), "perm"));
  CHECK(mentions(refused(3, 5, 128), "names row 128"));
  CHECK(mentions(refused(3, 5, -1), "names row -1"));
  CHECK(mentions(refused(2, 5, 3), "g_idx"));
  CHECK(mentions(refused(2, 127, 4), "in group 4 of 4"));
  CHECK(mentions(refused(2, 0, -1), "g_idx"));
}

TEST_CASE("lifting block scales changes no weight", "[marlin]") {
  for (const GlobalScale global : {GlobalScale::multiplies, GlobalScale::divides}) {
    QuantizedMatrix q = matrix_for({"marlin", nvfp4(global), 128, 128}, seed());
    for (float& scale : q.scales.reshaped()) scale = std::min(scale, 20.0f);
    q.scales(0, 0) = 0x1.8p-8f;
    q.scales = q.scales.unaryExpr([](float s) { return s < 0x1p-8f ? 0.0f : s; });
    const MatrixF before = dequantize(q);
    const float factor = lift_block_scales(q);
    CHECK(factor == 4);
    CHECK(dequantize(q) == before);
    CHECK(lift_block_scales(q) == 1);
    q.scheme.activations = DType::BF16;
    if (global == GlobalScale::multiplies) weight_format_named("marlin")->encode(q);
    q.scales(1, 1) = 448;
    q.scales(0, 0) = 0x1p-9f;
    CHECK(mentions(error_of(ErrorKind::unsupported, [&] { lift_block_scales(q); }), "448"));
  }
}

TEST_CASE("a dividing global scale is refused: its reciprocal is another number", "[marlin]") {
  const QuantizedMatrix q = matrix_for({"marlin", nvfp4(GlobalScale::divides), 128, 128}, seed());
  CHECK(mentions(error_of(ErrorKind::unsupported, [&] { weight_format_named("marlin")->encode(q); }),
                 "reciprocal"));
}

TEST_CASE("recognition: the tensors first, then the claims", "[marlin][recognize]") {
  const auto views = [](const std::vector<Part>& parts, const Claims& claims) {
    return recognize(views_of(parts), claims);
  };
  const auto encoded = [](const char* format, const Scheme& scheme) {
    return weight_format_named(format)->encode(matrix_for({format, scheme, 256, 128}, seed()));
  };
  const auto wide = encoded("marlin", plain(kU8B128, 128));
  CHECK(views(wide, {})->geometry.scheme.type == kU8B128);
  Claims claims{.method = "marlin-pack", .dialect = "marlin", .type = kE4M3};
  CHECK(views(encoded("marlin", plain(kE4M3, 128)), claims)->geometry.scheme.type == kE4M3);
  claims.type = kU4B8;
  CHECK(mentions(error_of(ErrorKind::bad_input, [&] { views(wide, claims); }), "u4b8"));
  claims.type = kU8;
  CHECK(mentions(error_of(ErrorKind::bad_input, [&] { views(wide, claims); }), "zero points"));
  const auto takes = [&](const std::vector<Part>& parts, const Claims& foreign) {
    return weight_format_named("marlin")->recognize(views_of(parts), foreign).has_value();
  };
  CHECK_FALSE(takes(wide, {.method = "awq", .dialect = "marlin"}));
  CHECK_FALSE(takes(wide, {.method = "gptq", .dialect = "bitblas"}));
  CHECK_FALSE(takes(encoded("marlin", zeros(kU4, 128)), {.method = "awq", .dialect = "gemm"}));
  CHECK(views(encoded("marlin", zeros(kU4, 128)), {})->format->name == std::string_view{"marlin"});
  CHECK(views(encoded("marlin", zeros(kU8, -1)), {})->geometry.scheme.type == kU8);
  CHECK(views(encoded("marlin", nvfp4()), {})->geometry.scheme == nvfp4());
  CHECK(views(encoded("marlin", mx(kE4M3)), {})->geometry.scheme == mx(kE4M3));

  auto labelled = encoded("marlin", mx(kE2M1));
  labelled[1].tensor.dtype = DType::U8;
  CHECK(views(labelled, {})->geometry.scheme == mx(kE2M1));
  auto a8 = encoded("marlin-a8", plain(kU4B8, 128));
  CHECK(views(a8, {.method = "marlin-pack", .dialect = "marlin-a8"})->format->name ==
        std::string_view{"marlin-a8"});
}

TEST_CASE("2:4: the first quad with three codes is named, at any number of rows", "[marlin][sparse]") {
  QuantizedMatrix q = matrix_for({"marlin-24", plain(kU4B8, 128), 512, 256}, seed());
  CHECK(is_24(q));
  q.codes.col(200).setConstant(1);
  for (const Eigen::Index k : {72, 73, 75}) q.codes(k, 131) = 9;
  q.codes(74, 131) = 8;
  CHECK_FALSE(is_24(q));
  CHECK(mentions(encode_error("marlin-24", q, ErrorKind::unsupported), "rows 72 to 75 of column 131"));
}

TEST_CASE("2:4: positions must ascend; fewer than two kept leave zeros", "[marlin][sparse]") {
  const Scheme scheme = plain(kU4B8, -1);
  QuantizedMatrix q = matrix_for({"marlin-24", scheme, 128, 128}, seed());
  q.codes.setConstant(8);
  std::vector<Part> parts = weight_format_named("marlin-24")->encode(q);
  const auto decode = [&] {
    return weight_format_named("marlin-24")->decode(views_of(parts), scheme, K{128}, N{128});
  };
  CHECK(identical(decode(), q));
  CHECK(parts[1].tensor.data[7] == std::byte{0xee});
  parts[1].tensor.data[7] = std::byte{0x44};  // another valid choice reads the same
  CHECK(identical(decode(), q));
  for (const int bad : {0xe0, 0x1e, 0xfe}) {
    parts[1].tensor.data[7] = static_cast<std::byte>(bad);
    CHECK(mentions(error_of(ErrorKind::bad_input, decode), "ascend"));
  }
}

TEST_CASE("compressed-tensors' names of 2:4, with the scales it forgot to reorder", "[marlin][sparse]") {
  const int k = GENERATE(256, 384);
  const int group_size = GENERATE(-1, 128);
  const QuantizedMatrix q = matrix_for({"marlin-24", plain(kU8B128, group_size), k, 128}, seed());
  std::vector<Part> parts = weight_format_named("marlin-24")->encode(q);
  parts[0].suffix = "weight_packed";
  parts[1].suffix = "meta";
  parts[2].suffix = "scale_packed";
  if (k == 256)  // plain order
    for (Eigen::Index group = 0; group < q.scales.rows(); ++group)
      for (Eigen::Index n = 0; n < 128; ++n)
        store_exactly(q.scales(group, n), DType::F16, parts[2].tensor.data.data() + 2 * (group * 128 + n));
  const auto stored = recognize(views_of(parts), {.method = "compressed-tensors", .dialect = "marlin-24"});
  REQUIRE(stored);
  CHECK(stored->format->name == std::string_view{"ct-marlin-24"});
  CHECK_FALSE(stored->format->writes());
  CHECK(identical(read_columns(*stored, views_of(parts), {0, 128}), q));
}

TEST_CASE("configurations of our own layouts say all that the tensors do not", "[marlin][config]") {
  const auto config = [](const char* format, const Scheme& scheme) {
    return weight_format_named(format)->quantization_config({scheme, {}, {}});
  };
  CHECK(config("marlin", plain(kE4M3, 128)).at("scale_exponent") == 8);
  CHECK(config("marlin", plain(kE4M3, 128, DType::BF16)).at("scale_exponent") == 120);
  CHECK(config("marlin", plain(kE4M3, 128)).at("type") == "e4m3");
  CHECK(config("marlin", nvfp4()).at("activations") == "F16");
  CHECK(config("marlin", nvfp4()).at("global_scale_exponent") == 7);
  CHECK(config("marlin", nvfp4()).at("scale_order") == "grouped-quad");
  CHECK(config("marlin", for_activations(nvfp4(), DType::BF16)).at("global_scale_exponent") == 119);
  CHECK(config("marlin", mx(kE2M1)).at("activations") == "BF16");
  CHECK(config("marlin", zeros(kU4, 128)).at("zero_points") == true);
  CHECK(config("marlin", scrambled(plain(kU4B8, 128))).at("act_order") == true);
  CHECK(config("marlin-a8", plain(kU4B8, 128)).at("activations") == "F8_E4M3");
  CHECK(config("marlin-a8", plain(kU8B128, -1)).at("activations") == "I8");
  CHECK(config("marlin-a8", plain(kU8B128, -1)).at("checkpoint_format") == "marlin-a8");
  CHECK(config("marlin-24", plain(kU4B8, 128)).at("checkpoint_format") == "marlin_24");
}
