#pragma once
// The tensors that store one quantized matrix, by the suffix that follows the module's name:
// module "model.layers.0.mlp.down_proj", suffix "qweight", tensor "model.layers.0.mlp.down_proj.qweight".

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "packer/format/tensor.hpp"

namespace mpk {

/// Known before any data exists, so that headers can be written first.
struct PartSpec {
  std::string suffix;
  DType dtype = DType::F32;
  Shape shape;
  friend bool operator==(const PartSpec&, const PartSpec&) = default;
};

/// What an encoder makes.
struct Part {
  std::string suffix;
  Tensor tensor;
};

/// What a decoder reads: suffix -> somebody else's bytes, aligned or not.
using PartViews = std::map<std::string, TensorView, std::less<>>;

PartViews views_of(std::span<const Part> parts);

/// What an encoder fills: suffix -> dtype, shape and bytes of its own.
struct PartBuffer {
  DType dtype = DType::F32;
  Shape shape;
  std::span<std::byte> data;
};
using PartBuffers = std::map<std::string, PartBuffer, std::less<>>;

PartBuffers buffers_of(std::span<Part> parts);

/// One zeroed tensor per spec.
std::vector<Part> allocate(std::span<const PartSpec> specs);

/// Throws Error{bad_input} if there is no such part.
const TensorView& part_of(const PartViews& parts, std::string_view suffix);

const PartBuffer& part_of(const PartBuffers& parts, std::string_view suffix);
bool has_part(const PartViews& parts, std::string_view suffix);

/// Throws Error{bad_input} unless `parts` are exactly `specs`: same suffixes, dtypes and shapes, and as many
/// bytes as the shape needs. The message names the suffix.
void require(const PartViews& parts, std::span<const PartSpec> specs);

/// Of elements of whole bytes. The bounds of common_refusal (K, N < 2^31) keep it below 2^63.
std::size_t num_bytes(const PartSpec& spec);

}  // namespace mpk
