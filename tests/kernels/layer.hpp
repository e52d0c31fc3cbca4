#pragma once
// Layers for the kernels to chew on, packed by formulas of its own: from (k, n) to the word, where packer/
// goes from the word to its source. Shares no code with packer/ or kernels/.

#include <cmath>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "kernels/gpu.hpp"
#include "packer/format/float16.hpp"
#include "packer/format/scalar_type.hpp"
#include "packer/format/units.hpp"

namespace mpk::test {

inline std::size_t at(std::int64_t index) {
  return static_cast<std::size_t>(index);
}

struct PackedLayer {
  ScalarType type;
  std::optional<GroupSize> group_size;
  K k;
  N n;
  std::vector<std::uint8_t> codes;      // (K, N) row-major
  std::vector<std::uint16_t> scales;    // (groups, N) float16, plain order
  std::vector<std::uint32_t> words;     // packed
  std::vector<std::uint16_t> permuted;  // scales as the kernels want them
  std::vector<float> weights;           // (K, N) column-major, exact

  bool grouped() const { return group_size && group_size->value < k.value; }
  std::int64_t rows_per_group() const { return grouped() ? group_size->value : k.value; }
  float weight(std::int64_t row, std::int64_t column) const { return weights[at(column * k.value + row)]; }
};

inline void put_code(std::vector<std::uint32_t>& words, ScalarType type, N n, std::int64_t row,
                     std::int64_t col, std::uint32_t code) {
  const std::int64_t lane = col % 8 * 4 + row % 8 / 2;
  if (type.bits == 4) {
    const std::int64_t word = row / 16 * n.value * 2 + col / 64 * 128 + lane * 4 + col % 64 / 16;
    words[at(word)] |= code << (4 * (row % 16 / 8 + 2 * (col % 16 / 8) + 4 * (row % 2)));
  } else {
    const std::int64_t word =
        row / 16 * n.value * 4 + col / 64 * 256 + lane * 8 + col % 64 / 16 * 2 + col % 16 / 8;
    words[at(word)] |= code << (8 * (row % 16 / 8 + 2 * (row % 2)));
  }
}

inline std::int64_t scale_position(bool grouped, std::int64_t n) {
  return grouped ? n / 64 * 64 + n % 8 * 8 + n % 64 / 8
                 : n / 32 * 32 + n % 8 / 2 * 8 + n % 32 / 8 * 2 + n % 2;
}

/// `make_scale(rng)` gives float16 bits.
template <class Rng, class MakeScale>
PackedLayer make_layer(Rng& rng, ScalarType type, std::optional<GroupSize> group_size, K k, N n,
                       MakeScale make_scale) {
  PackedLayer layer{type, group_size, k, n, {}, {}, {}, {}, {}};
  const std::int64_t groups = k.value / layer.rows_per_group();
  layer.codes.resize(at(k.value * n.value));
  layer.scales.resize(at(groups * n.value));
  layer.permuted.resize(layer.scales.size());
  layer.words.resize(at(k.value * n.value / type.pack_factor()));
  layer.weights.resize(layer.codes.size());
  std::uniform_int_distribution<int> any_code{0, type.max_code()};
  for (auto& code : layer.codes) code = static_cast<std::uint8_t>(any_code(rng));
  for (auto& scale : layer.scales) scale = make_scale(rng);
  for (std::int64_t row = 0; row < k.value; ++row)
    for (std::int64_t col = 0; col < n.value; ++col) {
      const std::uint8_t code = layer.codes[at(row * n.value + col)];
      const float scale = f16_to_float(layer.scales[at(row / layer.rows_per_group() * n.value + col)]);
      layer.weights[at(col * k.value + row)] = static_cast<float>(code - type.bias) * scale;
      put_code(layer.words, type, n, row, col, code);
    }
  for (std::int64_t group = 0; group < groups; ++group)
    for (std::int64_t col = 0; col < n.value; ++col)
      layer.permuted[at(group * n.value + scale_position(layer.grouped(), col))] =
          layer.scales[at(group * n.value + col)];
  return layer;
}

inline LayerShape shape_of(const PackedLayer& layer) {
  return {*weight_of(layer.type, 0), layer.group_size, layer.k, layer.n};
}
inline LayerTensors tensors_of(const PackedLayer& layer) {
  return {.words = layer.words, .scales = std::as_bytes(std::span{layer.permuted})};
}

/// Scales as layers have them, some negative, a few so small that their products are subnormal.
template <class Rng>
std::uint16_t wild_scale(Rng& rng) {
  std::uniform_real_distribution<float> log2{-9.0f, -4.0f}, chance{0.0f, 1.0f};
  const float magnitude = chance(rng) < 0.02f ? std::ldexp(1.0f + chance(rng), -20) : std::exp2(log2(rng));
  return float_to_f16(chance(rng) < 0.2f ? -magnitude : magnitude);
}

/// Gaussian rows with a few columns a hundred times larger, as trained models have them.
template <class Rng>
std::vector<std::uint16_t> activations_with_outliers(Rng& rng, M m, K k) {
  std::normal_distribution<float> gauss;
  std::vector<std::uint16_t> bits(at(m.value * k.value));
  for (std::int64_t i = 0; i < m.value * k.value; ++i)
    bits[at(i)] = float_to_f16(gauss(rng) * (i % k.value % 61 == 7 ? 100.0f : 1.0f));
  return bits;
}

}  // namespace mpk::test
