#pragma once
// What a checkpoint's configuration says of one module. A claim, not a fact: recognition asks the tensors
// first and consults this only where they leave a choice.

#include <cstdint>
#include <optional>
#include <string>

#include "packer/format/scalar_type.hpp"
#include "packer/format/tensor.hpp"

namespace mpk {

struct Claims {
  /// quant_method: "gptq", "awq", "compressed-tensors", "fp8", "modelopt", "mxfp4", "hqq", "marlin-pack"; "":
  /// nothing said.
  std::string method = {};
  /// The variety of the method, in lower case: GPTQ's checkpoint_format, AWQ's version, compressed-tensors'
  /// format, ModelOpt's quant_algo, HQQ's axis ("axis0", "axis1").
  std::string dialect = {};
  std::optional<int> bits = {};
  std::optional<std::int64_t> group_size = {};     ///< -1: one scale per column; weight_block_size[1]
  std::optional<std::int64_t> block_columns = {};  ///< weight_block_size[0]: outputs that share a scale
  std::optional<bool> symmetric = {}, act_order = {};
  std::optional<ScalarType> type = {};    ///< only artifacts of marlin-pack say it
  std::optional<DType> activations = {};  ///< of the kernel that a run-time layout is for; likewise
  bool scales_are_inverse = false;        ///< GPTQModel's FP8: the weight is divided by weight_scale_inv
};

}  // namespace mpk
