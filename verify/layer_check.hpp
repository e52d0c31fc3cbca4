#pragma once
// One packed layer, put through every proof.

#include <cstdint>
#include <vector>

#include "packer/manifest.hpp"
#include "packer/weight_format.hpp"
#include "verify/report.hpp"

namespace mpk {

struct CheckOptions {
  bool use_gpu = false;
  std::vector<M> rows{M{1}, M{16}, M{100}};  ///< activation rows of the products
  std::uint64_t seed = 1;
};

struct CheckedLayer {
  LayerCheck check;
  QuantizedMatrix matrix;  ///< as the packer unpacks it; empty if it could not be
};

/// `parts`: the module's tensors without its bias. Findings go into the check; only a failing GPU throws.
CheckedLayer check_layer(const ManifestLayer& record, const PartViews& parts, const CheckOptions& options);

/// Adds what only the source can tell: the weight error, which must be the recorded one, and with inputs (K,
/// M) the output error.
void check_against_source(LayerCheck& check, const ManifestLayer& record, const QuantizedMatrix& matrix,
                          const MatrixF& original, const MatrixF* inputs);

}  // namespace mpk
