#include "packer/format/quantized_matrix.hpp"

namespace mpk {

MatrixF dequantize(const QuantizedMatrix& q) {
  const std::int64_t rows = q.scheme.rows_per_group(q.k());
  MatrixF weight(q.codes.rows(), q.codes.cols());
#pragma omp parallel for schedule(static)
  for (Eigen::Index n = 0; n < q.codes.cols(); ++n)
    for (Eigen::Index group = 0; group < q.scales.rows(); ++group) {
      const float scale = q.scales(group, n);
      for (Eigen::Index k = group * rows; k < (group + 1) * rows; ++k)
        weight(k, n) = static_cast<float>(static_cast<int>(q.codes(k, n)) - q.scheme.type.bias) * scale;
    }
  return weight;
}

}  // namespace mpk
