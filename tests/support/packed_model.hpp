#pragma once
// A checkpoint of random packed layers and whatever stands beside them.

#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "packer/io/checkpoint.hpp"
#include "packer/io/checkpoint_writer.hpp"
#include "packer/weight_format.hpp"
#include "tests/packer/random_matrix.hpp"
#include "tests/support/files.hpp"

namespace mpk::test {

class PackedModel {
 public:
  explicit PackedModel(const char* format = "gptq") : format_{*weight_format_named(format)} {}

  /// A layer of numbers of which any product with another stays far from overflow.
  PackedModel& layer(const std::string& module, const Scheme& scheme, std::int64_t k, std::int64_t n) {
    return layer(module, random(scheme, k, n));
  }
  PackedModel& layer(const std::string& module, const QuantizedMatrix& matrix) {
    for (Part& part : format_.encode(matrix)) tensors_.emplace_back(module + "." + part.suffix, part.tensor);
    schemes_.exceptions[module] = matrix.scheme;
    schemes_.common = matrix.scheme;
    return *this;
  }
  /// Float16 numbers in -1 .. 1.
  PackedModel& floats(const std::string& name, const Shape& shape) {
    std::size_t count = 1;
    for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
    Tensor tensor{DType::F16, shape, std::vector<std::byte>(2 * count)};
    std::mt19937 engine{++seed_};
    std::uniform_real_distribution<float> uniform{-1, 1};
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint16_t bits = float_to_f16(uniform(engine));
      std::memcpy(tensor.data.data() + 2 * i, &bits, 2);
    }
    tensors_.emplace_back(name, std::move(tensor));
    return *this;
  }
  PackedModel& tensor(const std::string& name, const TensorView& view) {
    tensors_.emplace_back(name, Tensor{view.dtype, view.shape, {view.data.begin(), view.data.end()}});
    return *this;
  }
  QuantizedMatrix random(const Scheme& scheme, std::int64_t k, std::int64_t n) {
    QuantizedMatrix matrix = random_matrix(scheme, K{k}, N{n}, ++seed_, format_.lowest_zero);
    std::mt19937 engine{seed_};
    for (float& scale : matrix.scales.reshaped())
      scale = std::ldexp(static_cast<float>(1 + engine() % 7), -8);
    return matrix;
  }

  void write(const std::filesystem::path& directory, nlohmann::json config = nlohmann::json::object()) const {
    std::filesystem::create_directories(directory);
    std::vector<TensorSpec> specs;
    for (const auto& [name, tensor] : tensors_) specs.push_back({name, tensor.dtype, tensor.shape});
    CheckpointWriter writer{directory, specs, std::uint64_t{1} << 30};
    for (const auto& [name, tensor] : tensors_) writer.write(name, tensor.view());
    writer.finish();
    CheckpointSchemes schemes = schemes_;
    std::erase_if(schemes.exceptions, [&](const auto& each) { return each.second == schemes.common; });
    config["torch_dtype"] = "float16";
    config["quantization_config"] = format_.quantization_config(schemes);
    write_file(directory / "config.json", config.dump(2));
  }

 private:
  const WeightFormat& format_;
  std::vector<std::pair<std::string, Tensor>> tensors_;
  CheckpointSchemes schemes_;
  unsigned seed_ = seed();
};

}  // namespace mpk::test
