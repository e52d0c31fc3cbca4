// Round to nearest: every weight on its own, no data needed.

#include "quantizer/checks.hpp"
#include "quantizer/hessian.hpp"
#include "quantizer/linalg/parallel.hpp"
#include "quantizer/methods.hpp"
#include "quantizer/ranges.hpp"
#include "quantizer/rounding.hpp"

namespace mpk {

QuantizedLinear rtn(const LinearLayer& layer, const QuantizerOptions& options) {
  check_layer(layer, options.scheme);
  const ConstMatrixRef& weight = layer.weight;
  const std::int64_t rows = options.scheme.rows_per_group(K{weight.rows()});

  QuantizedLinear result;
  QuantizedMatrix& q = result.matrix;
  q = find_ranges(weight, options, importance_of(layer, options));
  MatrixF error(weight.rows(), weight.cols());
  parallel_for(weight.cols(), [&](Eigen::Index n) {
    for (Eigen::Index group = 0; group < q.scales.rows(); ++group) {
      const float scale = q.scales(group, n);
      const Levels levels{q.scheme.type, zero_of(q, group, n)};
      for (Eigen::Index k = group * rows; k < (group + 1) * rows; ++k) {
        const float level = levels.nearest(weight(k, n) / scale);
        q.codes(k, n) = levels.code(level);
        error(k, n) = weight(k, n) - level * scale;
      }
    }
  });
  result.relative_loss =
      loss_ratio(output_energy(error, layer.hessian), output_energy(weight, layer.hessian));
  return result;
}

}  // namespace mpk
