#include "model/norm.hpp"

#include <cmath>

#include "model/elementwise.hpp"

namespace mpk {

void rms_norm(const float* in, const float* weight, std::int64_t n, float eps, float* out) {
  const auto sum = sum_in_lanes<float>(n, [in](std::int64_t i) { return in[i] * in[i]; });
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
  for (std::int64_t i = 0; i < n; ++i) out[i] = weight[i] * (in[i] * scale);
}

void rms_norm(ConstMatrixRef x, const Eigen::VectorXf& weight, float eps, MatrixF& out) {
  out.resize(x.rows(), x.cols());
#pragma omp parallel for schedule(static)
  for (Eigen::Index token = 0; token < x.cols(); ++token)
    rms_norm(x.data() + token * x.outerStride(), weight.data(), x.rows(), eps, out.col(token).data());
}

}  // namespace mpk
