// The rows with floating-point codes: what they hold, spell, refuse and tell apart.

#include <limits>

#include <fmt/format.h>

#include "tests/packer/float_cases.hpp"

using namespace mpk;
using namespace mpk::test;

namespace {

Tensor& tensor_of(std::vector<Part>& parts, std::string_view suffix) {
  for (Part& part : parts)
    if (part.suffix == suffix) return part.tensor;
  FAIL("no part " << suffix);
  return parts.front().tensor;
}

TensorView header(DType dtype, Shape shape) {
  return {dtype, std::move(shape), {}};
}

/// With data, so that a tensor beside it is to blame.
TensorView zeros(DType dtype, Shape shape) {
  static const std::vector<std::byte> bytes(1 << 16);
  const std::size_t count = num_bytes({"", dtype, shape});
  REQUIRE(count <= bytes.size());
  return {dtype, std::move(shape), std::span{bytes}.first(count)};
}

/// Recognizes and reads all of it.
QuantizedMatrix read_back(const PartViews& parts, const Claims& claims, const char* expected_row) {
  const auto stored = recognize(parts, claims);
  REQUIRE(stored);
  CHECK(std::string{stored->format->name} == expected_row);
  return read_columns(*stored, parts, {0, stored->geometry.n.value});
}

}  // namespace

TEST_CASE("floating-point formats: decode inverts encode, whole and in slabs", "[float]") {
  const FloatCase c = GENERATE(from_range(float_cases()));
  const WeightFormat& format = row_named(c.format);
  const K k{c.k};
  const N n{c.n};
  CAPTURE(c.format, c.k, c.n, to_string(c.scheme));
  REQUIRE_FALSE(format.refusal(c.scheme, k, n));
  const QuantizedMatrix matrix = float_matrix(c, seed());
  const std::vector<Part> parts = format.encode(matrix);
  const std::vector<PartSpec> specs = format.specs(c.scheme, k, n);
  REQUIRE(parts.size() == specs.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    CHECK(specs[i] == PartSpec{parts[i].suffix, parts[i].tensor.dtype, parts[i].tensor.shape});
    CHECK(parts[i].tensor.data.size() == num_bytes(specs[i]));
  }
  CHECK(identical(format.decode(views_of(parts), c.scheme, k, n), matrix));
  CHECK(same_bytes(write_slabs(format, matrix, specs), parts));

  SECTION("recognized with its scheme, and slabs are the whole's columns") {
    const auto stored = recognize(views_of(parts), claims_of(c));
    REQUIRE(stored);
    CHECK(stored->format == &format);
    CHECK(stored->geometry == Geometry{c.scheme, k, n});
    for (std::int64_t first = 0; first < c.n; first += kColumnUnit) {
      const std::int64_t count = std::min(kColumnUnit, c.n - first);
      CHECK(identical(read_columns(*stored, views_of(parts), {first, count}),
                      columns_of(matrix, first, count)));
    }
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

TEST_CASE("FP8: every spelling of the scales is read, and written back as it came", "[float]") {
  struct Spelled {
    Shape shape;
    std::int64_t group_size, columns;  ///< as the reader should see them without claims
  };
  struct Of {
    std::int64_t k, n;
    std::vector<Spelled> spellings;
  };
  const std::vector<Of> all{
      {300,
       200,
       {{{}, 0, 0},
        {{1}, 0, 0},
        {{1, 1}, 0, 0},
        {{200}, 0, 1},
        {{200, 1}, 0, 1},
        {{200, 3}, 128, 1},
        {{2, 3}, 128, 128},
        {{2, 1, 3, 1}, 128, 128},
        {{4, 5}, 64, 64},
        {{7, 10}, 32, 32},
        {{1, 3}, 128, 256},
        {{2, 1}, 512, 128}}},
      {64, 128, {{{1, 1}, 128, 128}, {{128, 1}, 0, 1}, {{1}, 0, 0}, {{1, 1, 1, 1}, 128, 128}}},
      {256, 1, {{{1, 1}, 0, 0}, {{1}, 0, 0}, {{1, 2}, 128, 128}, {{1, 1, 2, 1}, 128, 128}}},
      {256, 128, {{{1, 2}, 128, 128}, {{128, 2}, 128, 1}, {{128, 256}, 1, 1}}},
      {90, 70, {{{7, 10}, 9, 10}, {{5, 6}, 16, 16}}},  // equal shares where no power of two fits
  };
  for (const Of& of : all)
    for (const Spelled& spelled : of.spellings)
      for (const DType dtype : {DType::F32, DType::BF16, DType::F16})
        for (const char* suffix : {"weight_scale", "weight_scale_inv"})
          for (const char* method : {"", "fp8", "modelopt"}) {
            CAPTURE(of.k, of.n, mpk::to_string(spelled.shape), suffix, method);
            const Scheme scheme = fp8_scheme(spelled.group_size, spelled.columns, dtype);
            const bool hf = std::string{suffix} == "weight_scale_inv" || *method != 0;
            const char* row = hf ? "fp8" : "ct-float-quantized";
            const QuantizedMatrix matrix = random_matrix(scheme, K{of.k}, N{of.n}, seed());
            const std::vector<Part> parts =
                write_slabs(row_named(row), matrix,
                            {{"weight", DType::F8_E4M3, {of.n, of.k}}, {suffix, dtype, spelled.shape}});
            CHECK(identical(read_back(views_of(parts), {.method = method}, row), matrix));
          }
}

TEST_CASE("FP8: the configuration decides where shapes leave a choice", "[float]") {
  const auto scheme_of = [](std::int64_t k, std::int64_t n, Shape shape, const Claims& claims) {
    std::vector<Part> parts = allocate(
        std::vector<PartSpec>{{"weight", DType::F8_E4M3, {n, k}}, {"weight_scale_inv", DType::F32, shape}});
    const auto stored = recognize(views_of(parts), claims);
    REQUIRE(stored);
    return stored->geometry.scheme;
  };
  const auto claimed = [](std::int64_t columns, std::int64_t rows) {
    Claims claims;
    claims.block_columns = columns;
    claims.group_size = rows;
    return claims;
  };
  CHECK(scheme_of(64, 64, {1, 1}, claimed(256, 256)) == fp8_scheme(256, 256));
  CHECK(scheme_of(64, 64, {1, 1}, claimed(32, 32)) == fp8_scheme(128, 128));  // does not fit: the shape wins
  CHECK(scheme_of(200, 200, {2, 2}, claimed(100, 100)) == fp8_scheme(100, 100));
  CHECK(scheme_of(200, 200, {2, 2}, claimed(64, 64)) == fp8_scheme(128, 128));
  CHECK(scheme_of(200, 200, {1, 2}, claimed(512, 128)) == fp8_scheme(128, 512));
  CHECK(scheme_of(64, 1, {1, 1}, {.group_size = -1}) == fp8_scheme(0, 1));
  CHECK(scheme_of(64, 64, {1, 1}, {.group_size = -1}) == fp8_scheme(0, Scheme::kAllColumns));
  CHECK(scheme_of(480, 33, {33, 5}, {.group_size = 96}) == fp8_scheme(96, 1));
  CHECK(scheme_of(64, 64, {64}, {.scales_are_inverse = true}) == dividing(fp8_scheme(0, 1)));
}

TEST_CASE("MX scales are U8 or F8_E8M0, NVFP4's global scale () or (1), and stay so", "[float]") {
  struct Spelled {
    FloatCase of;
    std::size_t part;
    DType dtype;
    Shape shape;
  };
  const Spelled c = GENERATE(values<Spelled>({
      {{"ct-mxfp4-pack-quantized", mx_scheme(kE2M1), 64, 130}, 1, DType::F8_E8M0, {130, 2}},
      {{"ct-mxfp8-quantized", mx_scheme(kE4M3), 64, 130}, 1, DType::F8_E8M0, {130, 2}},
      {{"gpt-oss-mxfp4", mx_scheme(kE2M1), 64, 130}, 1, DType::F8_E8M0, {130, 2}},
      {{"ct-nvfp4-pack-quantized", nvfp4_scheme(GlobalScale::divides), 64, 130}, 2, DType::F32, {}},
      {{"modelopt-nvfp4", nvfp4_scheme(GlobalScale::multiplies), 64, 130}, 2, DType::F32, {1}},
  }));
  CAPTURE(c.of.format);
  const WeightFormat& format = row_named(c.of.format);
  const QuantizedMatrix matrix = float_matrix(c.of, seed());
  std::vector<Part> parts = format.encode(matrix);
  CHECK(identical(read_back(views_of(parts), {}, c.of.format), matrix));
  parts[c.part].tensor.dtype = c.dtype;
  parts[c.part].tensor.shape = c.shape;
  CHECK(identical(read_back(views_of(parts), {}, c.of.format), matrix));
  std::vector<PartSpec> specs;
  for (const Part& part : parts) specs.push_back({part.suffix, part.tensor.dtype, part.tensor.shape});
  CHECK(same_bytes(write_slabs(format, matrix, specs), parts));
}

TEST_CASE("floating-point formats refuse with numbers what they cannot hold", "[float]") {
  struct Refusal {
    const char* format;
    Scheme scheme;
    std::int64_t k, n;
    const char* says;
  };
  const Scheme ct = nvfp4_scheme(GlobalScale::divides), modelopt = nvfp4_scheme(GlobalScale::multiplies);
  Scheme asymmetric = fp8_scheme(0, 1), order = fp8_scheme(64, 1), global = fp8_scheme(0, 1),
         shared = mx_scheme(kE2M1), wide = ct;
  asymmetric.zero_points = ZeroPoints::integer;
  order.act_order = true;
  global.global_scale = GlobalScale::multiplies;
  shared.columns_per_scale = 2;
  wide.group_size = GroupSize{32};
  const Refusal c = GENERATE_COPY(values<Refusal>({
      {"ct-nvfp4-pack-quantized", ct, 24, 8, "K = 24 (% 16 = 8)"},
      {"ct-nvfp4-pack-quantized", wide, 64, 8, "group_size is 32"},
      {"ct-nvfp4-pack-quantized", modelopt, 64, 8, "use format modelopt"},
      {"modelopt-nvfp4", ct, 64, 8, "use format compressed-tensors"},
      {"modelopt-nvfp4", mx_scheme(kE2M1), 64, 8, "group_size is 32"},
      {"ct-mxfp4-pack-quantized", mx_scheme(kE2M1), 48, 8, "K = 48 (% 32 = 16)"},
      {"ct-mxfp4-pack-quantized", mx_scheme(kE4M3), 64, 8, "holds e2m1 codes, not e4m3"},
      {"ct-mxfp4-pack-quantized", shared, 64, 8, "columns share"},
      {"ct-mxfp8-quantized", mx_scheme(kE4M3), 33, 8, "K = 33 (% 32 = 1)"},
      {"ct-mxfp8-quantized", fp8_scheme(32, 1), 64, 8, "F8_E8M0, not F32"},
      {"gpt-oss-mxfp4", mx_scheme(kE2M1), 16, 8, "K = 16"},
      {"gpt-oss-mxfp4", ct, 64, 8, "16"},
      {"fp8", mx_scheme(kE4M3), 64, 8, "cannot be F8_E8M0"},
      {"fp8", {kU8B128, std::nullopt, DType::F32}, 64, 8, "not u8b128"},
      {"fp8", asymmetric, 64, 8, "zero points"},
      {"fp8", order, 64, 8, "act-order"},
      {"fp8", global, 64, 8, "global scale"},
      {"fp8", fp8_scheme(64, Scheme::kAllColumns), 128, 8, "64 rows of all columns"},
      {"fp8", fp8_scheme(0, 64), 256, 128, "all rows of 64 columns"},
      {"fp8", fp8_scheme(128, -1), 256, 128, "-1"},
      {"ct-float-quantized", dividing(fp8_scheme(0, 1)), 64, 8, "use format fp8"},
      {"ct-mxfp8-quantized", dividing(mx_scheme(kE4M3)), 64, 8, "divide"},
      {"gptq", dividing({kU4B8, std::nullopt, DType::F16}), 64, 64, "divide"},
  }));
  CAPTURE(c.format, c.k, c.n);
  const auto why = row_named(c.format).refusal(c.scheme, K{c.k}, N{c.n});
  REQUIRE(why);
  INFO(*why);
  CHECK(mentions(*why, c.says));
}

TEST_CASE("NaN codes, NaN scales and useless global scales are refused where they stand", "[float]") {
  const auto refused = [](const char* name, const Scheme& scheme, auto change) {
    const FloatCase c{name, scheme, 160, 140};
    std::vector<Part> parts = row_named(name).encode(float_matrix(c, seed()));
    change(parts);
    const auto stored = recognize(views_of(parts), claims_of(c));
    REQUIRE(stored);
    return error_of(ErrorKind::bad_input, [&] { read_columns(*stored, views_of(parts), {128, 12}); });
  };
  const auto byte = [](const char* suffix, std::size_t at, unsigned value) {
    return [=](std::vector<Part>& parts) { tensor_of(parts, suffix).data[at] = std::byte(value); };
  };
  const auto floats = [](const char* suffix, std::size_t at, float value) {
    return [=](std::vector<Part>& parts) {
      std::memcpy(tensor_of(parts, suffix).data.data() + 4 * at, &value, 4);
    };
  };
  constexpr float kInf = std::numeric_limits<float>::infinity(),
                  kNaN = std::numeric_limits<float>::quiet_NaN();
  for (const unsigned nan : {0x7fu, 0xffu}) {
    const std::string text =
        refused("ct-float-quantized", fp8_scheme(0, 1), byte("weight", 130 * 160 + 9, nan));
    CHECK(mentions(text, fmt::format("(k, n) = (9, 130) is 0x{:02x}", nan)));
    CHECK(mentions(text, "in weight"));
    CHECK(mentions(refused("ct-mxfp8-quantized", mx_scheme(kE4M3), byte("weight", 139 * 160 + 159, nan)),
                   "(159, 139)"));
    CHECK(mentions(refused("ct-nvfp4-pack-quantized", nvfp4_scheme(GlobalScale::divides),
                           byte("weight_scale", 133 * 10 + 7, nan)),
                   "group 7, column 133 is NaN"));
  }
  for (const char* name : {"ct-mxfp4-pack-quantized", "gpt-oss-mxfp4"})
    CHECK(mentions(
        refused(name, mx_scheme(kE2M1), byte(*name == 'g' ? "scales" : "weight_scale", 139 * 5 + 4, 255)),
        "group 4, column 139"));
  CHECK(mentions(refused("ct-mxfp8-quantized", mx_scheme(kE4M3), byte("weight_scale", 128 * 5, 255)),
                 "group 0, column 128"));
  CHECK(mentions(refused("fp8", fp8_scheme(128, 128), floats("weight_scale_inv", 3, kInf)),
                 "group 1, column 128 is not finite"));
  CHECK(mentions(refused("fp8", fp8_scheme(0, 1), floats("weight_scale", 131, kNaN)), "column 131"));
  CHECK(mentions(refused("fp8", dividing(fp8_scheme(0, 1)), floats("weight_scale_inv", 131, -0.0f)),
                 "column 131 is 0"));
  CHECK_NOTHROW([&] {
    std::vector<Part> parts =
        row_named("fp8").encode(float_matrix({"fp8", fp8_scheme(0, 1), 16, 16}, seed()));
    floats("weight_scale", 3, 0.0f)(parts);
    read_back(views_of(parts), {.method = "fp8"}, "fp8");
  }());
  for (const float bad : {0.0f, kInf, kNaN})
    CHECK(mentions(refused("ct-nvfp4-pack-quantized", nvfp4_scheme(GlobalScale::divides),
                           floats("weight_global_scale", 0, bad)),
                   "weight_global_scale is"));
  CHECK(mentions(
      refused("modelopt-nvfp4", nvfp4_scheme(GlobalScale::multiplies), floats("weight_scale_2", 0, kInf)),
      "weight_scale_2 is inf"));
}

TEST_CASE("encode refuses codes and scales that the tensors cannot hold", "[float]") {
  const auto refused = [](const char* name, const Scheme& scheme, auto change) {
    QuantizedMatrix q = float_matrix({name, scheme, 64, 40}, seed());
    change(q);
    return error_of(ErrorKind::bad_input, [&] { row_named(name).encode(q); });
  };
  const Scheme nv = nvfp4_scheme(GlobalScale::divides);
  CHECK(mentions(refused("fp8", fp8_scheme(0, 1), [](auto& q) { q.codes(3, 30) = 0x7f; }), "(3, 30)"));
  CHECK(mentions(refused("ct-nvfp4-pack-quantized", nv, [](auto& q) { q.codes(3, 30) = 16; }), "code 16"));
  CHECK(mentions(refused("ct-nvfp4-pack-quantized", nv, [](auto& q) { q.scales(2, 9) = 0.1f; }),
                 "group 2, column 9 is 0.1"));
  CHECK(mentions(refused("ct-nvfp4-pack-quantized", nv, [](auto& q) { q.global_scale = 0; }), "divided"));
  CHECK(mentions(refused("ct-mxfp8-quantized", mx_scheme(kE4M3), [](auto& q) { q.scales(1, 9) = 3; }),
                 "no finite F8_E8M0"));
  CHECK(mentions(refused("fp8", fp8_scheme(128, 128), [](auto& q) { q.scales(0, 9) = 123; }), "column 9"));
  CHECK(mentions(refused("fp8", fp8_scheme(0, 1, DType::BF16), [](auto& q) { q.scales(0, 9) = 0.1f; }),
                 "BF16"));
  CHECK(mentions(refused("fp8", dividing(fp8_scheme(0, 1)), [](auto& q) { q.scales(0, 9) = 0; }), "is 0"));
}

TEST_CASE("other floats and other tensors are told apart or refused", "[float][recognize]") {
  const auto f8 = zeros(DType::F8_E4M3, {64, 128}), u8 = zeros(DType::U8, {64, 64});
  const auto f32 = [](Shape shape) { return header(DType::F32, std::move(shape)); };
  const auto unsupported = [](const PartViews& parts, const Claims& claims = {}) {
    return error_of(ErrorKind::unsupported, [&] { recognize(parts, claims); });
  };
  const auto contradicts = [](const PartViews& parts) {
    return error_of(ErrorKind::bad_input, [&] { recognize(parts); });
  };
  CHECK_FALSE(recognize({{"weight", f8}}));
  CHECK_FALSE(recognize({{"weight", header(DType::BF16, {64, 128})}, {"weight_scale", f32({64, 1})}}));
  CHECK_FALSE(recognize({{"weight", u8}, {"weight_scale", header(DType::U8, {64, 4})}}));
  CHECK_FALSE(recognize({{"blocks", header(DType::F32, {2, 2, 16})}, {"scales", header(DType::U8, {2, 2})}}));

  for (const DType dtype : {DType::F8_E5M2, DType::F8_E4M3FNUZ, DType::F8_E5M2FNUZ})
    for (const char* suffix : {"weight_scale", "weight_scale_inv"})
      CHECK(mentions(unsupported({{"weight", header(dtype, {64, 128})}, {suffix, f32({64, 1})}}),
                     info(dtype).name));
  CHECK(mentions(unsupported({{"weight", f8}, {"weight_scale_inv", header(DType::F8_E8M0, {1, 1})}}),
                 "F8_E8M0"));
  CHECK(mentions(unsupported({{"weight", f8}, {"weight_scale", f32({1})}, {"pre_quant_scale", f32({128})}}),
                 "pre_quant_scale"));
  CHECK(mentions(unsupported({{"weight", f8}, {"weight_scale", f32({1})}, {"weight_zero_point", f32({1})}}),
                 "weight_zero_point"));
  CHECK(mentions(unsupported({{"weight", u8},
                              {"weight_scale", header(DType::F8_E4M3, {64, 8})},
                              {"weight_scale_2", f32({})},
                              {"pre_quant_scale", header(DType::BF16, {128})}}),
                 "pre_quant_scale is there as well"));
  CHECK(mentions(unsupported({{"weight_packed", u8},
                              {"weight_scale", header(DType::F8_E4M3, {64, 8})},
                              {"weight_global_scale", f32({1})},
                              {"svd_up", f32({64, 16})}}),
                 "svd_up"));
  CHECK(mentions(unsupported({{"weight", f8}, {"weight_scale", header(DType::F64, {1})}}), "F64"));
  CHECK(mentions(unsupported({{"weight_packed", header(DType::U8, {64, 20})},
                              {"weight_scale", header(DType::U8, {64, 2})}}),
                 "K = 40"));

  CHECK(mentions(contradicts({{"weight_packed", u8}, {"weight_scale", header(DType::F8_E4M3, {64, 8})}}),
                 "no weight_global_scale"));
  CHECK(mentions(contradicts({{"weight", u8}, {"weight_scale", header(DType::F8_E4M3, {64, 8})}}),
                 "no weight_scale_2"));
  CHECK(mentions(contradicts({{"weight_packed", u8}, {"weight_scale", header(DType::U8, {64, 5})}}),
                 "(64, 5)"));
  CHECK(mentions(contradicts({{"weight", f8}, {"weight_scale", header(DType::U8, {64, 8})}}), "(64, 8)"));
  CHECK(
      mentions(contradicts({{"blocks", header(DType::U8, {2, 3, 8})}, {"scales", header(DType::U8, {2, 3})}}),
               "(2, 3, 8)"));
  CHECK(mentions(
      contradicts({{"blocks", header(DType::U8, {4, 2, 3, 16})}, {"scales", header(DType::U8, {2, 3})}}),
      "one expert"));
  for (const Shape& shape : std::vector<Shape>{{0},
                                               {63},
                                               {65, 1},
                                               {64, 129},
                                               {3, 3, 3},
                                               {1, 2, 1, 1},
                                               {128, 64},
                                               {-1, -1},
                                               {std::int64_t{1} << 62, std::int64_t{1} << 62}})
    CHECK(mentions(contradicts({{"weight", f8}, {"weight_scale", f32(shape)}}), mpk::to_string(shape)));
  CHECK(mentions(contradicts({{"weight", header(DType::F8_E4M3, {2, 64, 128})}, {"weight_scale", f32({1})}}),
                 "(2, 64, 128)"));
  CHECK(mentions(
      unsupported({{"weight", header(DType::F8_E4M3, {std::int64_t{1} << 33, std::int64_t{1} << 33})},
                   {"weight_scale", f32({1})}}),
      "2^31"));
  CHECK(mentions(contradicts({{"weight", f8}, {"weight_scale", f32({1})}}), "has 0 bytes"));
}

TEST_CASE("damage to floating-point formats is refused or shows", "[float][fuzz]") {
  int refused = 0, different = 0;
  for (unsigned trial = 0; trial < 600; ++trial) {
    std::mt19937 random{trial};  // the same on every run
    const FloatCase& c = float_cases()[trial % float_cases().size()];
    CAPTURE(trial, c.format);
    const WeightFormat& format = row_named(c.format);
    const QuantizedMatrix before = float_matrix(c, trial);
    std::vector<Part> parts = format.encode(before);
    Tensor& victim = parts[random() % parts.size()].tensor;
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
        victim.shape.resize(std::max<std::size_t>(1, victim.shape.size()));
        victim.shape[random() % victim.shape.size()] = static_cast<std::int32_t>(random());
        break;
      case 4:
        victim.shape.push_back(1 + random() % 2);
        break;
      default:
        victim.data[random() % victim.data.size()] ^= static_cast<std::byte>(1 + random() % 255);
    }
    try {
      const QuantizedMatrix after = format.decode(views_of(parts), c.scheme, K{c.k}, N{c.n});
      CHECK_FALSE(identical(after, before));
      ++different;
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::bad_input);
      ++refused;
    }
    try {  // either answer is fine; crashing is not
      if (const auto stored = recognize(views_of(parts), claims_of(c)))
        read_columns(*stored, views_of(parts), {0, stored->geometry.n.value});
    } catch (const Error&) {
    }
  }
  CHECK(refused > 300);
  CHECK(different > 30);
}
