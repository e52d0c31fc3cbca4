#pragma once
// AWQ's scales, folded into a decoder layer: what reads an input is multiplied by its scale, what produces it
// is divided by it.
//
//     norm -> q, k, v     v -> o     norm -> gate, up     up -> down
//
// A query head reads the values of a key-value head that others read as well: o's inputs of one value channel
// share a scale. Nothing is folded through a linear with a bias or one that is not quantized, nor through the
// norm before experts, which their router reads as it is, nor inside latent attention.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/pipeline/layer_calibration.hpp"
#include "quantizer/methods.hpp"

namespace mpk {

/// What became of a linear's weight: diag(inputs) W diag(1 / outputs); empty: all 1.
struct FoldedScales {
  std::vector<float> inputs;   ///< (K)
  std::vector<float> outputs;  ///< (N)
};

struct FoldedLayer {
  std::map<std::string, FoldedScales> linears;  ///< by module
  /// Weights of changed norms as they are stored (without DecoderConfig::norm_offset), by tensor name; exact
  /// in their dtype.
  std::map<std::string, Eigen::VectorXf> norms;
};

/// Finds the scales from what the layer's linears see, and folds them. `scheme_of(module)`: nullopt for
/// linears that stay as they are. `dtype_of(tensor)`: F32, F16 or BF16, in which a norm will be stored: it is
/// rounded to it, and the scale becomes what it was really divided by.
FoldedLayer fold_awq_scales(DecoderLayer& layer, const DecoderConfig& config, const GroupStatistics& seen,
                            const std::function<std::optional<Scheme>(const std::string&)>& scheme_of,
                            const std::function<DType(const std::string&)>& dtype_of,
                            const QuantizerOptions& options);

/// Folds scales that were found before into the same layer as it was: to the bit what fold_awq_scales left.
void fold_again(DecoderLayer& layer, const DecoderConfig& config, const FoldedLayer& folded);

}  // namespace mpk
