#pragma once
// A float checkpoint as a WeightSource. For tests only: the program has its own, which also decodes packed
// weights.

#include <cstring>
#include <string>
#include <utility>

#include "model/weight_source.hpp"
#include "packer/format/error.hpp"
#include "packer/format/float16.hpp"
#include "packer/io/checkpoint.hpp"

namespace mpk::test {

/// Elements of any float tensor as float32, in storage order.
inline Eigen::VectorXf elements(const TensorView& tensor) {
  Eigen::Index count = 1;
  for (const std::int64_t extent : tensor.shape) count *= extent;
  Eigen::VectorXf out(count);
  if (tensor.dtype == DType::F32) {
    std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
    return out;
  }
  if (tensor.dtype != DType::F16 && tensor.dtype != DType::BF16)
    throw Error{ErrorKind::unsupported, std::string{"no float tensor: "} + info(tensor.dtype).name};
  for (Eigen::Index i = 0; i < count; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, tensor.data.data() + 2 * i, 2);
    out[i] = tensor.dtype == DType::F16 ? f16_to_float(bits) : bf16_to_float(bits);
  }
  return out;
}

inline std::vector<std::int32_t> integers(const TensorView& tensor) {
  if (tensor.dtype != DType::I32) throw Error{ErrorKind::unsupported, "no int32 tensor"};
  std::vector<std::int32_t> out(tensor.data.size() / 4);
  std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
  return out;
}

class CheckpointWeights : public WeightSource {
 public:
  explicit CheckpointWeights(Checkpoint checkpoint) : checkpoint_{std::move(checkpoint)} {}

  bool contains(const std::string& name) const override { return checkpoint_.contains(name); }
  MatrixF load(const std::string& name) const override {
    const TensorView tensor = checkpoint_.tensor(name);
    const bool matrix = tensor.shape.size() == 2;
    return elements(tensor).reshaped(tensor.shape.at(matrix ? 1 : 0), matrix ? tensor.shape[0] : 1);
  }

 private:
  Checkpoint checkpoint_;
};

}  // namespace mpk::test
