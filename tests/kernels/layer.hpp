#pragma once
// Layers for the kernels to chew on, packed by formulas of its own: from (k, n) to the word, where packer/
// goes from the word to its source. Shares no code with packer/'s layouts or kernels/'s decoding.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "kernels/gpu.hpp"
#include "packer/format/float16.hpp"
#include "packer/format/units.hpp"

namespace mpk::test {

inline std::size_t at(std::int64_t index) {
  return static_cast<std::size_t>(index);
}

inline std::uint16_t to_bits(float value, Float type) {
  return type == Float::f16 ? float_to_f16(value) : float_to_bf16(value);
}
inline float from_bits(std::uint16_t bits, Float type) {
  return type == Float::f16 ? f16_to_float(bits) : bf16_to_float(bits);
}

/// What numbers a layer is made of.
enum class Numbers {
  wild,    ///< any code; scales as layers have them, some negative, some so small that products are subnormal
  wilder,  ///< float zero points close to 0, too, of which f16 kernels may leave out bits (error_bound.hpp)
  exact    ///< small whole codes, scales 1/2, 1 or 2: sums of few thousand products are exact in float32
};

struct PackedLayer {
  LayerShape shape;
  std::vector<std::uint32_t> words;
  std::vector<std::byte> scales;  // permuted, as they are stored
  std::vector<std::uint32_t> zero_points;
  std::vector<std::int32_t> perm;
  std::vector<std::uint16_t> bias;     // permuted
  float global_scale = 1;              // as it is stored
  std::vector<float> weights;          // (K, N) column-major, rows as the activations have them
  std::vector<std::uint16_t> decoded;  // the same, rounded as kernels do
  std::vector<float> bias_values;      // (N)

  float weight(std::int64_t row, std::int64_t column) const {
    return weights[at(column * shape.k.value + row)];
  }
  /// The packed row where `row` stands.
  std::int64_t stored_row(std::int64_t row) const {
    return perm.empty() ? row : std::ranges::find(perm, row) - perm.begin();
  }
  LayerTensors tensors() const {
    return {.words = words,
            .scales = scales,
            .zero_points = zero_points,
            .perm = perm,
            .bias = bias,
            .global_scale = global_scale};
  }
};

inline void put_code(std::vector<std::uint32_t>& words, int bits, N n, std::int64_t row, std::int64_t col,
                     std::uint32_t code) {
  const std::int64_t lane = col % 8 * 4 + row % 8 / 2;
  if (bits == 4) {
    const std::int64_t word = row / 16 * n.value * 2 + col / 64 * 128 + lane * 4 + col % 64 / 16;
    words[at(word)] |= code << (4 * (row % 16 / 8 + 2 * (col % 16 / 8) + 4 * (row % 2)));
  } else {
    const std::int64_t word =
        row / 16 * n.value * 4 + col / 64 * 256 + lane * 8 + col % 64 / 16 * 2 + col % 16 / 8;
    words[at(word)] |= code << (8 * (row % 16 / 8 + 2 * (row % 2)));
  }
}

/// The layout for 8-bit activations.
inline void put_code8(std::vector<std::uint32_t>& words, int bits, N n, std::int64_t row, std::int64_t col,
                      std::uint32_t code) {
  const std::int64_t tile = row / 32 * (n.value / 32) + col / 32, lane = col % 8 * 4 + row % 16 / 4;
  const std::int64_t block = col % 32 / 8, second = row % 32 / 16;
  if (bits == 4)
    words[at(tile * 128 + lane * 4 + block)] |= code << (4 * (row % 4 * 2 + second));
  else
    words[at(tile * 256 + lane * 8 + block * 2 + second)] |= code << (8 * (row % 4));
}

inline std::int64_t grouped_position(std::int64_t n) {
  return n / 64 * 64 + n % 8 * 8 + n % 64 / 8;
}
inline std::int64_t quad_position(std::int64_t n) {
  constexpr std::int64_t kMiddleSwapped[] = {0, 2, 1, 3};
  const std::int64_t position = grouped_position(n);
  return position / 4 * 4 + kMiddleSwapped[position % 4];
}
inline std::int64_t single_position(std::int64_t n) {
  return n / 32 * 32 + n % 8 / 2 * 8 + n % 32 / 8 * 2 + n % 2;
}
inline void put_zero_point(std::vector<std::uint32_t>& words, N n, std::int64_t group, std::int64_t col,
                           std::uint32_t zero) {
  const std::int64_t j = col % 64 / 8;
  words[at(group * n.value / 8 + col / 64 * 8 + col % 8)] |= zero << (4 * (j / 2 + 4 * (j % 2)));
}

inline void put_zero_point8(std::vector<std::uint32_t>& words, N n, std::int64_t group, std::int64_t col,
                            std::uint32_t zero) {
  words[at(group * n.value / 8 + col / 64 * 8 + col % 8)] |= zero << (4 * (col % 64 / 8));
}

/// A small float: sign, exponent, mantissa bits; no infinities here.
inline float small_float(int code, int exponent_bits, int mantissa_bits, int exponent_bias) {
  const int mantissa = code & ((1 << mantissa_bits) - 1),
            exponent = code >> mantissa_bits & ((1 << exponent_bits) - 1);
  const bool negative = code >> (exponent_bits + mantissa_bits) != 0;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), 1 - exponent_bias - mantissa_bits)
                              : std::ldexp(static_cast<float>(mantissa + (1 << mantissa_bits)),
                                           exponent - exponent_bias - mantissa_bits);
  return negative ? -magnitude : magnitude;
}
inline float value_of(Weight weight, int code) {
  switch (weight) {
    case Weight::u4b8:
      return static_cast<float>(code - 8);
    case Weight::u4:
    case Weight::u4_float_zeros:
      return static_cast<float>(code);
    case Weight::u8b128:
      return static_cast<float>(code - 128);
    case Weight::e4m3:
      return small_float(code, 4, 3, 7);
    case Weight::nvfp4:
    case Weight::mxfp4:
      return small_float(code, 2, 1, 1);
  }
  return 0;
}

/// One scale: what it is, and how it is stored.
struct Scale {
  float value;
  std::uint16_t bits;
};

/// Of magnitude 2^-9 .. 2^-4, one in five negative, one in fifty about 2^-20.
template <class Rng>
float wild_value(Rng& rng) {
  std::uniform_real_distribution<float> log2{-9.0f, -4.0f}, chance{0.0f, 1.0f};
  const float magnitude = chance(rng) < 0.02f ? std::ldexp(1.0f + chance(rng), -20) : std::exp2(log2(rng));
  return chance(rng) < 0.2f ? -magnitude : magnitude;
}
template <class Rng>
std::uint16_t wild_scale(Rng& rng) {
  return float_to_f16(wild_value(rng));
}

template <class Rng>
Scale make_scale(Rng& rng, const LayerShape& shape, Numbers numbers) {
  std::uniform_int_distribution<int> small_exponent{-1, 1}, byte{1, 0x6f}, negative_exponent{-9, -4},
      chance{0, 49};
  const bool exact = numbers == Numbers::exact;
  const float power_of_two = std::ldexp(1.0f, small_exponent(rng));
  switch (shape.weight) {
    case Weight::nvfp4: {
      if (exact) return {power_of_two, static_cast<std::uint16_t>(0xb0 + 8 * std::ilogb(power_of_two))};
      if (chance(rng) == 0) return {0.0f, 0};
      const int e4m3 = byte(rng);
      if (e4m3 >= 8) return {small_float(e4m3, 4, 3, 7), static_cast<std::uint16_t>(e4m3 + 120)};
      // Scales below 2^-6 are for f16 only.
      constexpr std::uint16_t kSubnormal[] = {0x00, 0x68, 0x70, 0x74, 0x78, 0x7a, 0x7c, 0x7e};
      if (shape.activations == Float::bf16) return {1.0f, 0xb0};
      return {small_float(e4m3, 4, 3, 7), kSubnormal[e4m3]};
    }
    case Weight::mxfp4: {
      const int exponent = exact              ? std::ilogb(power_of_two)
                           : chance(rng) == 0 ? -100
                                              : negative_exponent(rng);
      const int stored = exponent + (shape.activations8 ? 6 : 0);
      return {std::ldexp(1.0f, exponent), static_cast<std::uint16_t>(127 + stored)};
    }
    default:
      break;
  }
  const int stored_exponent = shape.activations8 == Activation8::e4m3 ? 9
                              : shape.weight != Weight::e4m3          ? 0
                              : shape.activations == Float::f16       ? 8
                                                                      : 120;
  const float value = exact ? power_of_two : wild_value(rng);
  const std::uint16_t bits = to_bits(std::ldexp(value, stored_exponent), shape.activations);
  return {std::ldexp(from_bits(bits, shape.activations), -stored_exponent), bits};
}

/// E4M3 without NaN, and if `exact` whole numbers up to 8.
template <class Rng>
int make_code(Rng& rng, Weight weight, Numbers numbers) {
  std::uniform_int_distribution<int> any{0, (1 << bits_of(weight)) - 1};
  for (;;) {
    const int code = any(rng);
    if (weight != Weight::e4m3) return code;
    if ((code & 0x7f) == 0x7f) continue;
    const float value = value_of(weight, code);
    if (numbers != Numbers::exact || (std::abs(value) <= 8 && value == std::round(value))) return code;
  }
}

/// As integers of 4 bits are stored for FP8 activations.
inline int recode(int code, int zero) {
  return code >= zero ? code - zero : 15 - code;
}

/// A float zero point: multiples of 1/2, or anything around the codes.
template <class Rng>
std::uint16_t make_float_zero(Rng& rng, Float type, Numbers numbers) {
  std::uniform_int_distribution<int> halves{0, 30}, chance{0, 7};
  std::uniform_real_distribution<float> wild{-2.0f, 17.0f};
  if (numbers == Numbers::exact) return to_bits(0.5f * static_cast<float>(halves(rng)), type);
  if (numbers == Numbers::wilder && chance(rng) == 0) return to_bits(std::ldexp(wild(rng), -10), type);
  for (;;)
    if (const float zero = wild(rng); std::abs(zero) >= 0x1p-5f) return to_bits(zero, type);
}

template <class Rng>
PackedLayer make_layer(Rng& rng, const LayerShape& shape, Numbers numbers, bool with_bias = false) {
  const std::int64_t k = shape.k.value, n = shape.n.value;
  const std::int64_t groups = shape.groups(), rows_per_group = k / groups;
  const bool bytes = shape.weight == Weight::nvfp4 || shape.weight == Weight::mxfp4;
  PackedLayer layer;
  layer.shape = shape;

  // Rows are dealt out to the groups at random; stored sorted, those of a group in their original order.
  std::vector<std::int64_t> place(at(k));  // of row
  for (std::int64_t row = 0; row < k; ++row) place[at(row)] = row;
  if (shape.act_order) {
    std::vector<std::int64_t> group_of = place;
    for (auto& group : group_of) group /= rows_per_group;
    std::shuffle(group_of.begin(), group_of.end(), rng);
    for (std::int64_t group = 0; group < groups; ++group)
      for (std::int64_t row = 0; row < k; ++row)
        if (group_of[at(row)] == group) {
          place[at(row)] = static_cast<std::int64_t>(layer.perm.size());
          layer.perm.push_back(static_cast<std::int32_t>(row));
        }
  }

  std::vector<Scale> scales(at(groups * n));
  std::vector<float> zeros(scales.size(), 0.0f);
  layer.scales.resize(scales.size() * (bytes ? 1 : 2));
  layer.zero_points.resize(scales.size() * at(zero_bits(shape.weight)) / 32);
  std::uniform_int_distribution<int> any_zero{0, 15};
  for (std::int64_t group = 0; group < groups; ++group)
    for (std::int64_t col = 0; col < n; ++col) {
      Scale& scale = scales[at(group * n + col)];
      scale = make_scale(rng, shape, numbers);
      const std::int64_t column = shape.activations8 ? single_position(col)
                                  : bytes            ? quad_position(col)
                                  : groups > 1       ? grouped_position(col)
                                                     : single_position(col);
      if (bytes)
        layer.scales[at(group * n + column)] = static_cast<std::byte>(scale.bits);
      else
        std::memcpy(&layer.scales[at(2 * (group * n + column))], &scale.bits, 2);
      float& zero = zeros[at(group * n + col)];
      if (shape.weight == Weight::u4) {
        const int code = any_zero(rng);
        zero = static_cast<float>(code);
        const auto put = shape.activations8 ? put_zero_point8 : put_zero_point;
        put(layer.zero_points, shape.n, group, col, static_cast<std::uint32_t>(code));
      } else if (shape.weight == Weight::u4_float_zeros) {
        const std::uint16_t bits = make_float_zero(rng, shape.activations, numbers);
        zero = from_bits(bits, shape.activations);
        const std::int64_t place_of_zero = group * n + grouped_position(col);  // one group, too
        layer.zero_points[at(place_of_zero / 2)] |= static_cast<std::uint32_t>(bits)
                                                    << (16 * (place_of_zero % 2));
      }
    }

  float global = 1;
  if (shape.weight == Weight::nvfp4) {
    global = numbers == Numbers::exact ? 0.5f : 0x1.234568p-10f;
    layer.global_scale = std::ldexp(global, shape.activations == Float::f16 ? 7 : 119);
  }
  layer.words.resize(at(k * n * bits_of(shape.weight) / 32));
  layer.weights.resize(at(k * n));
  layer.decoded.resize(layer.weights.size());
  for (std::int64_t col = 0; col < n; ++col)
    for (std::int64_t row = 0; row < k; ++row) {
      const std::int64_t stored = place[at(row)], group = stored / rows_per_group;
      const int code = make_code(rng, shape.weight, numbers);
      const float zero = zeros[at(group * n + col)];
      const bool recoded = shape.activations8 == Activation8::e4m3 && shape.weight != Weight::mxfp4;
      const int stored_code =
          recoded ? recode(code, shape.weight == Weight::u4 ? static_cast<int>(zero) : 8) : code;
      const auto put = shape.activations8 ? put_code8 : put_code;
      put(layer.words, bits_of(shape.weight), shape.n, stored, col, static_cast<std::uint32_t>(stored_code));
      const float exact = value_of(shape.weight, code) - zero;
      const float rounded = from_bits(to_bits(exact, shape.activations), shape.activations);
      const float scale = scales[at(group * n + col)].value;
      layer.weights[at(col * k + row)] = exact * scale * global;
      layer.decoded[at(col * k + row)] = to_bits(rounded * scale * global, shape.activations);
    }

  if (with_bias) {
    layer.bias.resize(at(n));
    std::normal_distribution<float> gauss;
    for (std::int64_t col = 0; col < n; ++col) {
      const float value = numbers == Numbers::exact ? std::round(8 * gauss(rng)) : 4 * gauss(rng);
      const std::uint16_t bits = to_bits(value, shape.activations);
      layer.bias[at(single_position(col))] = bits;
      layer.bias_values.push_back(from_bits(bits, shape.activations));
    }
  } else {
    layer.bias_values.assign(at(n), 0.0f);
  }
  return layer;
}

/// Gaussian rows with a few columns a hundred times larger, as trained models have them.
template <class Rng>
std::vector<std::uint16_t> activations_with_outliers(Rng& rng, M m, K k, Float type = Float::f16) {
  std::normal_distribution<float> gauss;
  std::vector<std::uint16_t> bits(at(m.value * k.value));
  for (std::int64_t i = 0; i < m.value * k.value; ++i)
    bits[at(i)] = to_bits(gauss(rng) * (i % k.value % 61 == 7 ? 100.0f : 1.0f), type);
  return bits;
}
/// Whole numbers -2 .. 2.
template <class Rng>
std::vector<std::uint16_t> small_activations(Rng& rng, M m, K k, Float type) {
  std::uniform_int_distribution<int> small{-2, 2};
  std::vector<std::uint16_t> bits(at(m.value * k.value));
  for (auto& b : bits) b = to_bits(static_cast<float>(small(rng)), type);
  return bits;
}

/// Activations of 8 bits with the scales of their rows.
struct QuantizedActivations {
  std::vector<std::byte> values;  // (M, K)
  std::vector<float> scales;      // (M)
  QuantizedRows rows() const { return {values, scales}; }
  QuantizedRows first(M m, K k) const {
    return {std::span{values}.first(at(m.value * k.value)), std::span{scales}.first(at(m.value))};
  }
};
inline double value_of(Activation8 type, std::byte bits) {
  return type == Activation8::int8 ? static_cast<double>(static_cast<std::int8_t>(bits))
                                   : static_cast<double>(small_float(std::to_integer<int>(bits), 4, 3, 7));
}
/// Any bytes but NaN, scales of 2^-9 .. 2^-4; or whole numbers -2 .. 2 with scales 1/2, 1 and 2.
template <class Rng>
QuantizedActivations quantized_activations(Rng& rng, M m, K k, Activation8 type, Numbers numbers) {
  constexpr std::byte kSmallE4m3[] = {std::byte{0xc0}, std::byte{0xb8}, std::byte{0x00}, std::byte{0x38},
                                      std::byte{0x40}};  // -2 .. 2
  std::uniform_int_distribution<int> any{0, 255}, small{-2, 2}, exponent{-1, 1};
  QuantizedActivations made;
  for (std::int64_t i = 0; i < m.value * k.value; ++i) {
    if (numbers == Numbers::exact) {
      const int value = small(rng);
      made.values.push_back(type == Activation8::e4m3 ? kSmallE4m3[value + 2]
                                                      : static_cast<std::byte>(value));
      continue;
    }
    int byte = any(rng);
    while (type == Activation8::e4m3 && (byte & 0x7f) == 0x7f) byte = any(rng);
    made.values.push_back(static_cast<std::byte>(byte));
  }
  for (std::int64_t row = 0; row < m.value; ++row)
    made.scales.push_back(numbers == Numbers::exact ? std::ldexp(1.0f, exponent(rng))
                                                    : std::abs(wild_value(rng)));
  return made;
}

/// Every kind of layer that has kernels.
struct Kind {
  Weight weight;
  Float activations;
  std::optional<Activation8> activations8 = {};
};
inline constexpr Kind kKinds[] = {
    {Weight::u4b8, Float::f16},
    {Weight::u4b8, Float::bf16},
    {Weight::u4, Float::f16},
    {Weight::u4, Float::bf16},
    {Weight::u8b128, Float::f16},
    {Weight::u8b128, Float::bf16},
    {Weight::e4m3, Float::f16},
    {Weight::e4m3, Float::bf16},
    {Weight::nvfp4, Float::f16},
    {Weight::nvfp4, Float::bf16},
    {Weight::mxfp4, Float::bf16},
    {Weight::u4_float_zeros, Float::f16},
    {Weight::u4_float_zeros, Float::bf16},
};
/// The same for activations of 8 bits.
inline std::vector<Kind> kinds8() {
  std::vector<Kind> kinds;
  for (const Float f : {Float::f16, Float::bf16}) {
    for (const Weight w : {Weight::u4b8, Weight::u4, Weight::u8b128})
      kinds.push_back({w, f, Activation8::int8});
    for (const Weight w : {Weight::u4b8, Weight::u4, Weight::mxfp4})
      kinds.push_back({w, f, Activation8::e4m3});
  }
  return kinds;
}
/// The group sizes of such layers; -1: one scale per column.
inline std::vector<int> group_sizes(Weight weight) {
  if (weight == Weight::nvfp4) return {16};
  if (weight == Weight::mxfp4) return {32};
  return {-1, 32, 64, 128};
}
inline std::optional<GroupSize> group(int size) {
  return size < 0 ? std::nullopt : std::optional{GroupSize{size}};
}
inline LayerShape layer_of(Kind kind, int group_size, std::int64_t k, std::int64_t n) {
  return {kind.weight, group(group_size), K{k}, N{n}, kind.activations, false, kind.activations8};
}

}  // namespace mpk::test
