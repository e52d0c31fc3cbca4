#include "cli/pipeline/rank_tensors.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "packer/format/error.hpp"
#include "packer/io/safetensors.hpp"

namespace mpk {
namespace {

bool is_float(DType dtype) {
  return dtype == DType::F64 || dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16;
}

/// "a.down_proj" of "a.down_proj.weight"; a stack of experts has no suffix.
std::string module_of(const std::string& name) {
  const std::string_view suffix = last_component(name);
  if (suffix != "weight" && suffix != "bias") return name;
  return name.substr(0, name.size() - suffix.size() - 1);
}

}  // namespace

RankTensor rank_tensor(const Checkpoint& checkpoint, const std::string& name, const Heads& heads,
                       std::int64_t ranks, std::int64_t rank) {
  const TensorView tensor = checkpoint.tensor(name);
  RankTensor result{tensor.shape};
  const std::string module = module_of(name);
  const Split split = split_of(module);
  if (ranks == 1 || split == Split::none || !is_float(tensor.dtype)) return result;
  const auto fail = [&](const std::string& why) {
    throw Error{ErrorKind::unsupported, fmt::format("{} {}: {}", name, to_string(tensor.shape), why)};
  };
  const std::string weight_name = module + ".weight";
  if (tensor.shape.size() > 2 || !checkpoint.contains(weight_name))
    fail("only weights of two dimensions and their biases are divided");
  const TensorView weight = checkpoint.tensor(weight_name);
  if (weight.shape.size() != 2) fail("only weights of two dimensions and their biases are divided");
  const Geometry geometry{{kU4B8, std::nullopt}, K{weight.shape[1]}, N{weight.shape[0]}};
  const RankPart part = part_of_rank({module, geometry}, heads, ranks, rank);
  if (!part.why_not.empty()) fail(part.why_not);
  result.is_whole = false;
  if (tensor.shape.size() == 1) {
    if (tensor.shape[0] != geometry.n.value) fail("not one bias per output");
    result.outputs = part.columns;
    result.shape = {part.geometry.n.value};
    result.is_zero = split == Split::rows && rank != kBiasRank;
  } else {
    result.outputs = part.columns;
    result.inputs = part.rows;
    result.shape = {part.geometry.n.value, part.geometry.k.value};
  }
  return result;
}

Tensor cut(const TensorView& tensor, const RankTensor& part) {
  Tensor out{tensor.dtype, part.shape, {}};
  if (part.is_whole) {
    out.data.assign(tensor.data.begin(), tensor.data.end());
    return out;
  }
  out.data.resize(tensor_bytes(out.dtype, out.shape));
  if (part.is_zero) return out;
  const std::size_t element = static_cast<std::size_t>(info(tensor.dtype).bits / 8);
  const bool is_matrix = tensor.shape.size() == 2;
  const std::size_t row = (is_matrix ? static_cast<std::size_t>(tensor.shape[1]) : 1) * element;
  const std::size_t first = is_matrix ? static_cast<std::size_t>(part.inputs.first) * element : 0;
  const std::size_t count = is_matrix ? static_cast<std::size_t>(part.inputs.count) * element : element;
  std::byte* to = out.data.data();
  for (const ColumnRange& range : part.outputs)
    for (std::int64_t n = range.first; n < range.first + range.count; ++n, to += count)
      std::memcpy(to, tensor.data.data() + static_cast<std::size_t>(n) * row + first, count);
  return out;
}

}  // namespace mpk
