// "gptq": GPTQ version 1, symmetric, inputs in their original order. What nearly every engine loads.

#include <cstring>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/formats/formats.hpp"
#include "packer/pack.hpp"
#include "packer/scales.hpp"
#include "packer/unpack.hpp"

namespace mpk::formats {
namespace {

std::optional<std::string> refusal(const Scheme& scheme, K k, N n) {
  if (auto why = common_refusal(scheme, k, n)) return why;
  if (k.value % 32 != 0 || n.value % 32 != 0)
    return fmt::format(
        "gptq needs K % 32 == 0 and N % 32 == 0; here K = {} (% 32 = {}), N = {} (% 32 = {}); leave the "
        "module unquantized",
        k.value, k.value % 32, n.value, n.value % 32);
  return std::nullopt;
}

std::vector<PartSpec> specs(const Scheme& scheme, K k, N n) {
  const int codes_per_word = scheme.type.pack_factor();
  const std::int64_t groups = scheme.groups(k).value;
  return {{"qweight", DType::I32, {k.value / codes_per_word, n.value}},
          {"qzeros", DType::I32, {groups, n.value / codes_per_word}},
          {"scales", scheme.scale_dtype, {groups, n.value}},
          {"g_idx", DType::I32, {k.value}}};
}

/// The group of row k, as g_idx stores it.
std::uint32_t group_of(std::int64_t k, std::int64_t rows_per_group) {
  return static_cast<std::uint32_t>(k / rows_per_group);
}

void store_word(std::span<std::byte> words, std::int64_t index, std::uint32_t word) {
  std::memcpy(words.data() + index * 4, &word, sizeof word);
}
std::uint32_t load_word(std::span<const std::byte> words, std::int64_t index) {
  std::uint32_t word;
  std::memcpy(&word, words.data() + index * 4, sizeof word);
  return word;
}
std::int64_t num_words(std::span<const std::byte> words) {
  return static_cast<std::int64_t>(words.size() / 4);
}

std::vector<Part> encode(const QuantizedMatrix& q) {
  refuse(refusal, q.scheme, q.k(), q.n());
  require_consistent(q);
  std::vector<Part> parts = allocate(specs(q.scheme, q.k(), q.n()));
  const auto data = [&](int part) { return std::span{parts[static_cast<std::size_t>(part)].tensor.data}; };
  within("qweight", [&] { pack_gptq(q.codes, q.scheme.type, data(0)); });
  for (std::int64_t i = 0; i < num_words(data(1)); ++i)
    store_word(data(1), i, gptq_v1_symmetric_zeros(q.scheme.type));
  within("scales", [&] { store_scales(q.scales, q.scheme.scale_dtype, ScaleOrder::plain, data(2)); });
  for (std::int64_t k = 0; k < q.k().value; ++k)
    store_word(data(3), k, group_of(k, q.scheme.rows_per_group(q.k())));
  return parts;
}

void require_symmetric(std::span<const std::byte> qzeros, ScalarType type) {
  const std::uint32_t expected = gptq_v1_symmetric_zeros(type);
  for (std::int64_t i = 0; i < num_words(qzeros); ++i)
    if (const std::uint32_t word = load_word(qzeros, i); word != expected) {
      const bool is_v2 = word == expected + (type.bits == 4 ? 0x11111111u : 0x01010101u);
      throw Error{ErrorKind::bad_input,
                  fmt::format("qzeros: word {} is {:08x}; symmetric {}-bit zeros are {:08x} in every "
                              "word of version 1{}",
                              i, word, type.bits, expected, is_v2 ? " (this is gptq_v2)" : "")};
    }
}

void require_original_order(std::span<const std::byte> g_idx, std::int64_t rows_per_group) {
  for (std::int64_t k = 0; k < num_words(g_idx); ++k)
    if (const std::uint32_t group = load_word(g_idx, k); group != group_of(k, rows_per_group))
      throw Error{ErrorKind::bad_input,
                  fmt::format("g_idx: row {} is in group {}, not {}; activation order is not stored here", k,
                              static_cast<std::int32_t>(group), k / rows_per_group)};
}

QuantizedMatrix decode(const PartViews& parts, const Scheme& scheme, K k, N n) {
  refuse(refusal, scheme, k, n);
  require(parts, specs(scheme, k, n));
  require_symmetric(part_of(parts, "qzeros").data, scheme.type);
  require_original_order(part_of(parts, "g_idx").data, scheme.rows_per_group(k));
  return {scheme, unpack_gptq(part_of(parts, "qweight").data, k, n, scheme.type), within("scales", [&] {
            return load_scales(part_of(parts, "scales").data, scheme.groups(k), n, scheme.scale_dtype,
                               ScaleOrder::plain);
          })};
}

Geometry geometry(const PartViews& parts) {
  const Extents qweight = matrix_extents(parts, "qweight"), scales = matrix_extents(parts, "scales");
  const Shape& g_idx = part_of(parts, "g_idx").shape;
  if (g_idx.size() != 1 || g_idx[0] < 1 || qweight.rows * 32 % g_idx[0] != 0)
    throw Error{ErrorKind::bad_input,
                fmt::format("g_idx {} and qweight ({}, {}) do not make a whole number of bits per code",
                            to_string(g_idx), qweight.rows, qweight.cols)};
  if (scales.cols != qweight.cols)
    throw Error{ErrorKind::bad_input,
                fmt::format("scales have {} columns, qweight {}", scales.cols, qweight.cols)};
  const K k{g_idx[0]};
  return {scheme_from(qweight.rows * 32 / k.value, k, Groups{scales.rows}, part_of(parts, "scales").dtype), k,
          N{qweight.cols}};
}

nlohmann::json quantization_config(const CheckpointSchemes& schemes) {
  return gptq_config("gptq", schemes);
}

}  // namespace

WeightFormat gptq() {
  return {"gptq",
          "GPTQ version 1, symmetric: 4 and 8 bit, what nearly every engine loads",
          {"qweight", "qzeros", "scales", "g_idx"},
          refusal,
          specs,
          encode,
          decode,
          geometry,
          quantization_config};
}

}  // namespace mpk::formats
